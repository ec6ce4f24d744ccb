"""Fine-tune pretrained CNNs for one imaging task, prove them condition by condition, ship one ONNX file."""

__version__ = "0.1.0"
