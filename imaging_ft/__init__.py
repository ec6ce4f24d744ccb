"""Fine-tune pretrained CNNs for one imaging task, prove them condition by condition, ship one ONNX file."""

import os

# onnxruntime reports to its makers unless it is told not to before its first import. A host of patients' images, or of
# a checkpoint's, talks to nobody unasked.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
