"""Puts the programs of ``examples/`` into ``README.md``; a test checks that they are there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
EXAMPLES = ROOT / "examples"


def browser_script() -> str:
    """The part of the page that matters: from the session to its close."""
    page = (EXAMPLES / "browser" / "index.html").read_text()
    return page[page.index("const session") : page.index("</script>")]


def main() -> None:
    """Replace the code blocks, in their order."""
    programs = iter(
        [
            ("python", (EXAMPLES / "echo_server.py").read_text()),
            ("python", (EXAMPLES / "echo_client.py").read_text()),
            ("javascript", browser_script()),
        ]
    )

    def replacement(_: re.Match[str]) -> str:
        language, body = next(programs)
        return f"```{language}\n{body}```"

    text = README.read_text()
    text = re.sub(r"```(?:python|javascript)\n.*?^```", replacement, text, flags=re.S | re.M)
    README.write_text(text)


if __name__ == "__main__":
    main()
