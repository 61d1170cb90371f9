"""The sample files do what they are there to show."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugin.domain.template import Template
from plugin.domain.upload import RowState
from plugin.testing.scenario import Scenario
from plugin.usecases.intake import take_upload
from plugin.usecases.setup import create_queue

SAMPLES = Path(__file__).parents[3] / "data" / "samples"
_BODIES = {
    "cobranca_vamos_conversar": ("POSITIONAL", "{{1}} {{2}} {{3}}"),
    "aviso_manutencao": ("POSITIONAL", "{{1}} {{2}} {{3}}"),
    "oferta_upgrade": ("NAMED", "{{nome}} {{plano}} {{preco}}"),
}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("file", "template", "accepted", "codes"),
    [
        ("cobranca_vamos_conversar", "cobranca_vamos_conversar", 12, []),
        ("aviso_manutencao", "aviso_manutencao", 12, []),
        ("oferta_upgrade", "oferta_upgrade", 12, []),
        (
            "cobranca_excel",
            "cobranca_vamos_conversar",
            6,
            ["phone_scientific", "phone_no_area_code", "missing_value", "queue_unknown", "phone_area_code"],
        ),
    ],
)
def test_a_sample_is_read_as_its_name_promises(
    scenario: Scenario, file: str, template: str, accepted: int, codes: list[str]
) -> None:
    store = scenario.store
    create_queue(store, scenario.operation, "Vendas")
    form, body = _BODIES[template]
    raw = {
        "id": "9", "name": template, "language": "pt_BR", "status": "APPROVED", "category": "UTILITY",
        "parameter_format": form, "components": [{"type": "BODY", "text": body}],
    }  # fmt: skip
    store.upsert_templates("test", [Template.from_meta(raw)])
    path = SAMPLES / f"{file}.csv"
    upload = take_upload(
        store,
        scenario.operator,
        operation_id=scenario.operation,
        template_id=store.templates("test")[0].id,
        filename=path.name,
        path=path,
        sha256="0" * 64,
    )
    assert upload.accepted == accepted
    assert [row.reason for row in store.upload_rows(upload.id, RowState.REJECTED)] == codes
    assert upload.rows == upload.accepted + upload.rejected + sum(upload.skipped.values())
    if file == "cobranca_excel":
        assert (upload.encoding, upload.delimiter, dict(upload.skipped)) == (
            "cp1252",
            ";",
            {"blank": 2, "duplicate": 1},
        )
