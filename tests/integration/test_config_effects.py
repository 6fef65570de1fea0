"""Every field of the configurations does something, over real connections.

The functions are in ``effects_common.py``, ``effects_client.py`` and ``effects_server.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ConfigurationError
from pywebtransport.config._base import BaseConfig
from tests.integration import effects_client, effects_common, effects_server
from tests.integration.effects import CONFIGS, EFFECTS, Bed
from tests.support.certificates import Certificates
from tests.support.configs import documented

MODULES = (effects_client, effects_common, effects_server)
# Programs may still set them, but they have no effect.
INERT = {
    "connection_cleanup_interval": "Closed connections free themselves at once",
    "connection_idle_check_interval": "Idle connections end by their own timer",
    "session_cleanup_interval": "Closed sessions free themselves at once",
    "stream_cleanup_interval": "Closed streams free themselves at once",
}
FIELDS = [(side, name) for side, config in CONFIGS.items() for name in config._rules]


def test_every_field_has_an_effect_or_a_reason() -> None:
    missing = [field for field in FIELDS if field not in EFFECTS and field[1] not in INERT]
    assert missing == []
    assert set(EFFECTS) <= set(FIELDS)
    assert not {name for _, name in EFFECTS} & set(INERT)


@pytest.mark.parametrize(
    ("side", "name"), [field for field in FIELDS if field[1] in INERT], ids=str
)
def test_inert_field_says_so_and_is_checked(side: str, name: str) -> None:
    config = CONFIGS[side]
    texts = documented(BaseConfig) | documented(config)
    assert f"Ignored; kept for compatibility. {INERT[name]}" in texts[name].replace("\n    ", " ")
    for value in (None, "1", 0, -1, float("nan"), [1.0]):
        with pytest.raises(ConfigurationError) as caught:
            config(**{name: value})
        assert caught.value.config_key == name
    assert getattr(config(**{name: 7}), name) == 7.0


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize(
    ("side", "name"),
    [pytest.param(*field, id="-".join(field)) for field in FIELDS if field in EFFECTS],
)
async def test_effect_of_a_field(
    side: str, name: str, certs: Certificates, tmp_path: Path, caplog: Any
) -> None:
    await EFFECTS[side, name](Bed(side, certs, tmp_path, caplog))
