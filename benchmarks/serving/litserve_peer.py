"""LitServe with the same file: JPEG uploads, decoded and run by plain onnxruntime, in its own batching."""

import io
import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime as ort
from fastapi import Request
from PIL import Image


class Peer(litserve.LitAPI):
    """What a user would write: decode, resize to one size so that a batch can be stacked, run, answer."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe gives it
        """Open the file."""
        self.session = ort.InferenceSession(self.path, providers=["CPUExecutionProvider"])
        self.channels = self.session.get_inputs()[0].shape[3]

    def decode_request(self, request: Request) -> Any:
        """Return the pixels of an upload [height, width, channels]."""
        data = request["image"].file.read()  # LitServe gives the form that it read
        image = Image.open(io.BytesIO(data)).convert("L" if self.channels == 1 else "RGB")
        return np.asarray(image).reshape(image.height, image.width, self.channels)

    def batch(self, inputs: list[Any]) -> Any:
        """Return them as one batch; they have one size here."""
        return np.stack(inputs)

    def predict(self, batch: Any) -> Any:
        """Return probabilities."""
        single = batch.ndim == 3
        found = self.session.run(["probabilities"], {"image": batch[None] if single else batch})[0]
        return found[0] if single else found

    def unbatch(self, output: Any) -> Any:
        """Return each image's."""
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Return the answer."""
        return {"probabilities": [float(value) for value in output]}


if __name__ == "__main__":
    peer = Peer(max_batch_size=int(sys.argv[3]), batch_timeout=0.002)
    peer.path = sys.argv[1]
    server = litserve.LitServer(peer, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(port=int(sys.argv[2]), generate_client_file=False, log_level="error", num_api_servers=1)
