from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugin.domain.template import Template
from plugin.domain.upload import Upload
from plugin.store import Store
from plugin.testing.clock import SettableClock
from plugin.testing.scenario import Scenario
from plugin.usecases.intake import take_upload

_UPLOAD_TEMPLATES = {
    "bill": ("POSITIONAL", "Olá {{1}}, sua fatura de {{2}} vence em {{3}}."),
    "offer_named": ("NAMED", "Oi {{nome}}, o plano {{plano_novo}} sai por {{preco}}."),
    "plain": ("POSITIONAL", "Aviso sem variáveis."),
    "reason_named": ("NAMED", "{{motivo}}"),
    "one": ("POSITIONAL", "Olá {{1}}"),
    "endless": ("POSITIONAL", "x" * 1025),
    "no_room": ("POSITIONAL", "x" * 1023 + "{{1}}{{2}}"),
    "just_room": ("POSITIONAL", "x" * 1022 + "{{1}}{{2}}"),
}


@pytest.fixture
def scenario(store: Store) -> Scenario:
    """A small installation on each kind of database."""
    return Scenario(store)


@pytest.fixture
def clock() -> SettableClock:
    """The time of `timed`: it stands still."""
    return SettableClock()


@pytest.fixture
def timed(database_url: str, clock: SettableClock) -> Iterator[Scenario]:
    """As `scenario`, by a clock that the test sets."""
    store = Store(database_url, clock)
    yield Scenario(store)
    store.close()


@pytest.fixture
def take(scenario: Scenario, tmp_path: Path) -> Callable[..., Upload]:
    """Upload these bytes for a template and return what was made of them."""
    scenario.store.upsert_templates(
        "test",
        [
            Template.from_meta(
                {
                    "id": name, "name": name, "language": "pt_BR", "status": "APPROVED", "category": "UTILITY",
                    "parameter_format": form, "components": [{"type": "BODY", "text": body}],
                }
            )
            for name, (form, body) in _UPLOAD_TEMPLATES.items()
        ],
    )  # fmt: skip
    ids = {one.name: one.id for one in scenario.store.templates("test")}

    def run(content: bytes | str, template: str = "bill", **more: Any) -> Upload:
        data = content.encode() if isinstance(content, str) else content
        path = tmp_path / "upload.csv"
        path.write_bytes(data)
        values: dict[str, Any] = {
            "operation_id": scenario.operation,
            "template_id": ids[template],
            "filename": "contatos.csv",
            "path": path,
            "sha256": hashlib.sha256(data).hexdigest(),
            **more,
        }
        return take_upload(scenario.store, values.pop("principal", scenario.operator), **values)

    return run
