"""Generator and discriminator alternate, each learns only in its own step, and the loss falls."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from ignite.engine import Engine, Events

from scripts.errors import UserError
from scripts.learning import loading
from scripts.learning.handlers import InitialWeights, TrainingLog, save_network
from scripts.learning.loading import choose_precision, computes_in_bfloat16
from tests.conftest import ROOT
from tests.tiny_training import make_trainer


def changed(before: dict[str, torch.Tensor], network: torch.nn.Module) -> bool:
    return any(not torch.equal(before[name], value) for name, value in network.named_parameters())


@pytest.mark.parametrize("adversarial", [0.1, 0.0])
def test_who_learns(adversarial: float) -> None:
    trainer = make_trainer(adversarial)
    networks = (trainer.state.g_network, trainer.state.d_network)
    before = [copy.deepcopy(dict(network.named_parameters())) for network in networks]
    trainer.run()
    assert changed(before[0], networks[0])
    assert changed(before[1], networks[1]) == (adversarial > 0)
    names = {name for name in trainer.state.output[0] if str(name).startswith("loss")}
    expected = {"loss", "loss_dice", "loss_hausdorff", "loss_focal"}
    assert names == expected | ({"loss_adversarial", "loss_discriminator"} if adversarial else set())


def test_generator_s_step_leaves_no_gradient_in_the_discriminator() -> None:
    """Else its optimiser would learn to help the generator."""
    trainer = make_trainer()
    seen = []
    step = trainer.state.g_optimizer.step
    discriminator = trainer.state.d_network

    def watch(*args: object, **kwargs: object) -> object:
        seen.append([p.grad is None or not p.requires_grad for p in discriminator.parameters()])
        return step(*args, **kwargs)

    trainer.state.g_optimizer.step = watch
    trainer.run()
    assert len(seen) == 2 and all(all(row) for row in seen)


def test_loss_falls_and_every_term_is_logged(tmp_path: Path) -> None:
    trainer = make_trainer(epochs=25)
    optimizers = {"generator": trainer.state.g_optimizer, "discriminator": trainer.state.d_optimizer}
    TrainingLog(str(tmp_path), optimizers).attach(trainer)
    trainer.run()
    header, *rows = (line.split(",") for line in (tmp_path / "training.csv").read_text().splitlines())
    assert header[:2] == ["epoch", "iteration"] and len(rows) == 50
    expected = ["loss", "loss_dice", "loss_hausdorff", "loss_focal", "loss_adversarial", "loss_discriminator"]
    expected += ["grad_norm_generator", "grad_norm_discriminator", "lr_generator", "lr_discriminator"]
    assert set(expected) <= set(header)
    dice = [float(row[header.index("loss_dice")]) for row in rows]
    assert dice[-1] < 0.3 < dice[0]
    assert all(float(row[header.index("grad_norm_generator")]) > 0 for row in rows)
    assert {row[header.index("lr_generator")] for row in rows} == {"0.01"}
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_tensorboard_starts() -> None:
    """Its program, which a newer setuptools breaks, not only its writer."""
    subprocess.run([sys.executable, "-m", "tensorboard.main", "--version"], check=True, capture_output=True)


def test_accumulated_gradients_are_those_of_the_large_batch() -> None:
    """Two batches of two make the step of one batch of four; the terms are means over samples."""
    weights = []
    for batch_size, accumulate in ((4, 1), (2, 2)):
        trainer = make_trainer(adversarial=0.0, batch_size=batch_size, accumulate=accumulate, different=True)
        trainer.run()
        weights.append(torch.cat([p.detach().flatten() for p in trainer.state.g_network.parameters()]))
    start = torch.cat([p.detach().flatten() for p in make_trainer(adversarial=0.0).state.g_network.parameters()])
    # Adam turns tiny differences of tiny gradients into whole steps of 0.01 for a few parameters.
    moved = (weights[0] - start).abs() > 1e-4
    assert moved.float().mean() > 0.5
    assert (weights[0] - weights[1]).abs()[moved].median() < 1e-5


def test_what_is_left_of_an_epoch_makes_a_step_of_its_own() -> None:
    trainer = make_trainer(adversarial=0.0, batch_size=1, accumulate=3)  # four batches: three, then one
    steps = []
    step = trainer.state.g_optimizer.step
    trainer.state.g_optimizer.step = lambda *a, **k: steps.append(trainer.state.iteration) or step(*a, **k)
    trainer.run()
    assert steps == [3, 4]


def test_a_scaler_changes_no_gradient_norm_in_the_log() -> None:
    """Between the steps of an accumulation norms were 65 536 times too large."""
    logged = []
    for scaled in (False, True):
        trainer = make_trainer(batch_size=1, accumulate=2)
        if scaled:
            trainer.state.g_scaler = torch.amp.GradScaler("cpu")
            trainer.state.d_scaler = torch.amp.GradScaler("cpu")
        norms: list[float] = []

        def keep(engine: Engine, norms: list[float] = norms) -> None:
            output = engine.state.output[0]
            norms += [output["grad_norm_generator"], output["grad_norm_discriminator"]]

        trainer.add_event_handler(Events.ITERATION_COMPLETED, keep)
        trainer.run()
        logged.append(torch.tensor(norms))
    assert len(logged[0]) == 8 and (logged[0] > 0).all()
    torch.testing.assert_close(logged[1], logged[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("dtype", "scales"), [(torch.bfloat16, False), (torch.float16, True)])
def test_losses_are_scaled_for_float16_alone(dtype: torch.dtype, scales: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", lambda: torch.amp.GradScaler("cpu"))
    trainer = make_trainer(amp=True, amp_kwargs={"dtype": dtype})
    assert [trainer.state.g_scaler is not None, trainer.state.d_scaler is not None] == [scales, scales]


def test_bfloat16_keeps_losses_in_float() -> None:
    trainer = make_trainer(amp=True, amp_kwargs={"dtype": torch.bfloat16})
    seen = []
    loss = trainer.state.recon_loss_function
    original = loss.forward
    loss.forward = lambda logits, target, scores=None: seen.append(logits.dtype) or original(logits, target, scores)
    trainer.run()
    assert seen and all(dtype == torch.bfloat16 for dtype in seen)
    assert trainer.state.output[0]["loss"] == trainer.state.output[0]["loss"]  # no NaN


def test_a_gpu_that_emulates_bfloat16_computes_in_float(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Ampere; and a device may be a name, as on the command line."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(loading, "_processor_has_bfloat16", lambda: True)
    assert not computes_in_bfloat16("cuda:1") and computes_in_bfloat16("cpu")
    assert choose_precision("auto", torch.device("cuda")) == "float32"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert choose_precision("auto", torch.device("cuda")) == "bfloat16"


def test_a_network_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the same bytes, whatever its temporary file was called; of a failed write nothing is left."""
    network = torch.nn.Linear(2, 1)
    save_network(network, tmp_path / "model.pt")
    before = (tmp_path / "model.pt").read_bytes()
    save_network(network, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_bytes() == before

    def fail(content: object, stream: BinaryIO) -> None:
        stream.write(b"half")
        raise RuntimeError("interrupted")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="interrupted"):
        save_network(network, tmp_path / "model.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    assert (tmp_path / "model.pt").read_bytes() == before


def test_a_training_begins_with_the_weights_that_it_is_given_but_not_a_resumed_one(tmp_path: Path) -> None:
    """They were loaded over the resumed network, without a word."""
    given = make_trainer().state.g_network
    torch.nn.init.constant_(next(given.parameters()), 0.25)
    save_network(given, tmp_path / "given.pt")
    seen = []
    for epoch in (0, 1):
        trainer = make_trainer(epochs=2)
        network = trainer.state.g_network
        InitialWeights(network, str(tmp_path / "given.pt")).attach(trainer)

        @trainer.on(Events.STARTED)
        def look(engine: Engine) -> None:
            seen.append(bool((next(engine.state.g_network.parameters()) == 0.25).all()))

        trainer.state.epoch, trainer.state.iteration = epoch, 2 * epoch
        trainer.run()
    assert seen == [True, False]
    for name in ("train.json", "train_localization.json", "minutes.json", "recipes/films_minutes.json"):
        assert "CheckpointLoader" not in (ROOT / "configs" / name).read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such weight file"),
        (b"no", "not a readable weight file"),
        (3, "not a readable weight file"),
        ({"model": {"a": torch.zeros(1)}}, "weights of another network"),
    ],
)
def test_weights_that_a_training_cannot_begin_with_are_one_line(tmp_path: Path, content: object, said: str) -> None:
    path = tmp_path / "given.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    trainer = make_trainer()
    InitialWeights(trainer.state.g_network, str(path)).attach(trainer)
    with pytest.raises(UserError, match=f"given.pt: {said}"):
        trainer.run()
