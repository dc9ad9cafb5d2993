"""The MONAI Deploy application: a study with a pair of films in, a spine out."""

from __future__ import annotations

from pathlib import Path

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application

from scripts.deploy.operators import Annotator, PairSelector, Reconstructor, SpineWriter
from scripts.errors import UserError
from scripts.job.options import NetworkOptions
from scripts.job.run import Networks

# The first that there is; a MAP carries TorchScript, the bundle both.
GENERATOR = ("model.ts", "model.pt")
LOCALIZER = ("localization.ts", "localization.pt")


class SpineApplication(Application):
    """Selection, annotation, reconstruction, output; ``-i``, ``-o`` and ``-m`` are the Deploy SDK's."""

    name = "vertebra_biplanar_reconstruction"
    description = "3D vertebrae from two orthogonal radiographs. Research use only, not for diagnosis."

    def compose(self) -> None:
        """Wire the operators."""
        context = Application.init_app_context(self.argv)
        models = Path(context.model_path)
        networks = Networks(NetworkOptions(_weights(models, GENERATOR), _weights(models, LOCALIZER)))
        study, output = Path(context.input_path), Path(context.output_path)
        select = PairSelector(self, CountCondition(self, 1), folder=study, output=output, name="select")
        annotate = Annotator(self, networks=networks, name="annotate")
        reconstruct = Reconstructor(self, networks=networks, name="reconstruct")
        write = SpineWriter(self, networks=networks, folder=output, name="write")
        self.add_flow(select, annotate, {("job", "job")})
        self.add_flow(annotate, reconstruct, {("marked", "marked")})
        self.add_flow(reconstruct, write, {("spine", "spine")})


def _weights(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder}: neither {' nor '.join(names)}; give the folder of the models with -m")
