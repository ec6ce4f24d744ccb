"""Export: a run folder becomes one self-describing ONNX file, proven equal to the trained model."""
