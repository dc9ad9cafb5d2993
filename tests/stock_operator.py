"""Run in MONAI Deploy's environment: the stock bundle operator on a raw network input; see test_deploy.py.

python stock_operator.py -i INPUT.npy's folder -o FOLDER -m model.ts
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, Image, IOType, Operator
from monai.deploy.operators.monai_bundle_inference_operator import IOMapping, MonaiBundleInferenceOperator


class Source(Operator):
    def __init__(self, fragment, *args, folder, **kwargs):
        self.folder = folder
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec):
        spec.output("image")

    def compute(self, op_input, op_output, context):
        image = np.load(self.folder / "input.npy")
        # The bundle's first transform squeezes the axis that a radiograph's file has.
        header = {"affine": np.eye(4), "original_affine": np.eye(4), "spacing": np.ones(3)}
        op_output.emit(Image(image[..., None], header), "image")


class Sink(Operator):
    def __init__(self, fragment, *args, folder, **kwargs):
        self.folder = folder
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec):
        spec.input("pred")

    def compute(self, op_input, op_output, context):
        np.save(self.folder / "output.npy", op_input.receive("pred").asnumpy())


class App(Application):
    def compose(self):
        context = Application.init_app_context(self.argv)
        source = Source(self, CountCondition(self, 1), folder=Path(context.input_path), name="source")
        bundle = MonaiBundleInferenceOperator(
            self,
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            app_context=context,
            bundle_path=Path(context.model_path),
            name="bundle",
        )
        sink = Sink(self, folder=Path(context.output_path), name="sink")
        self.add_flow(source, bundle, {("image", "image")})
        self.add_flow(bundle, sink, {("pred", "pred")})


if __name__ == "__main__":
    App().run()
