"""The reference bot's model: trained when it is missing or older than what it is made of."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from plugin.cli.console import Progress, step
from plugin.cli.process import Child
from plugin.errors import ConfigurationError, VamosError

#: Seconds after which a training is surely stuck.
_LIMIT = 1800


class TrainingFailed(VamosError):
    """`rasa train` did not make a model."""

    code = "training_failed"


def ensure_model(project: Path, logs: Path) -> Path:
    """The model that fits the project's files, trained now if need be.

    Raises:
        ConfigurationError: Rasa is not installed, or the project has no bot.
        TrainingFailed: with the end of the log.
    """
    try:
        rasa = version("rasa")
    except PackageNotFoundError:
        raise ConfigurationError("Rasa is not installed.", "Install it with: pip install 'vamos[rasa]'.") from None
    models = project / "models"
    model = models / f"vamos-{_fingerprint(project, rasa)}.tar.gz"
    if model.exists():
        return model
    models.mkdir(exist_ok=True)
    with open(models / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another stack may be training the same one
        if not model.exists():
            with step("training the reference bot (once; one to three minutes)") as progress:
                _train(project, model, logs / "train.log", progress)
    return model


def environment() -> dict[str, str]:
    """The environment for Rasa's processes: no telemetry, and their warnings of old libraries kept short."""
    return {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore::DeprecationWarning",
        "SANIC_HOST": "127.0.0.1",  # the action server would listen on every interface
        "RASA_TELEMETRY_ENABLED": "false",
        "SQLALCHEMY_SILENCE_UBER_WARNING": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
    }


def _inputs(project: Path) -> list[Path]:
    bot = [*project.glob("config/*.yml"), *project.glob("data/bot/**/*.yml")]
    if not bot:
        raise ConfigurationError(
            f"There is no reference bot in {project}.", "Run ./vamos from a checkout of the project."
        )
    return sorted([*bot, *project.glob("plugin/importer.py")])


def _fingerprint(project: Path, rasa: str) -> str:
    digest = hashlib.sha256(rasa.encode())
    for file in _inputs(project):
        digest.update(f"\0{file.relative_to(project)}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _train(project: Path, model: Path, log: Path, progress: Progress) -> None:
    for old in model.parent.glob("vamos-*.tar.gz"):
        old.unlink()
    # Into a directory of its own first: a model of an interrupted training must not look finished.
    with tempfile.TemporaryDirectory(prefix=".training-", dir=model.parent) as made:
        command = [sys.executable, "-m", "rasa", "train", "--fixed-model-name", "model", "--out", made]
        command += ["--config", "config/config.yml", "--domain", "config/domain.yml", "--data", "data/bot"]
        child = Child(
            "the training", command, log, project, {**environment(), "RASA_CACHE_DIRECTORY": f"{model.parent}/.cache"}
        )
        child.start()
        try:
            waited = 0
            while not child.wait(1):
                waited += 1
                progress.tick(f"log in {log}")
                if waited > _LIMIT:
                    raise TrainingFailed(f"The training takes longer than {_LIMIT // 60} minutes.", f"See {log}.")
        finally:
            child.kill()
        trained = Path(made) / "model.tar.gz"
        if not trained.exists():
            raise TrainingFailed(
                f"Training the bot failed. The end of {log}:\n{child.tail()}",
                "Mend what it complains about and start again.",
            )
        trained.replace(model)
