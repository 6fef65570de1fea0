"""Puts the client, the browser page and the install commands of ``vendor/`` into the README.

A test compares them, so run this after changing either.
"""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
EXAMPLES = ROOT / "examples"

sys.path.insert(0, str(Path(__file__).resolve().parent))

from system_packages import load_requirements  # noqa: E402 - found through the line above


def browser_script() -> str:
    """The part of the page that matters: from the session to its close."""
    page = (EXAMPLES / "browser" / "index.html").read_text()
    return page[page.index("const session") : page.index("</script>")]


def install_commands() -> str:
    """What to type on each distribution, out of ``vendor/libraries.toml``."""
    vendor = load_requirements()
    catalogue = vendor.load()
    lines = []
    for distribution in catalogue.distributions:
        note = f" ({distribution.note})" if distribution.note else ""
        lines.append(f"**{distribution.name}**{note}\n")
        lines.append(f"```console\n$ {vendor.install_command(catalogue, distribution)}\n```\n")
    return "\n".join(lines)


def synchronised(text: str) -> str:
    """The README with its code blocks and its install section replaced."""
    programs = iter(
        [
            ("python", (EXAMPLES / "echo_client.py").read_text()),
            ("javascript", browser_script()),
        ]
    )

    def program(_: re.Match[str]) -> str:
        language, body = next(programs)
        return f"```{language}\n{body}```"

    # The server stands in the README alone.
    top, text = text.split("## Client\n")
    text = re.sub(r"^```(?:python|javascript)\n.*?^```", program, text, flags=re.S | re.M)
    text = f"{top}## Client\n{text}"
    before, rest = text.split("<!-- install -->\n")
    _, after = rest.split("<!-- /install -->\n")
    return f"{before}<!-- install -->\n{install_commands()}<!-- /install -->\n{after}"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    README.write_text(synchronised(README.read_text()))
