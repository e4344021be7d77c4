"""Names of engines, known without loading torch."""

from __future__ import annotations

EAGER, AUTO = "eager", "auto"
ENGINES = {
    "channels_last": "benchmark.engines.channels_last",
    "compile": "benchmark.engines.compiled",
    "onnxruntime": "benchmark.engines.onnx_runtime",
    "openvino": "benchmark.engines.open_vino",
}
"""Modules of engines by name, beside PyTorch's own forward (`eager`). Each is imported when it is used."""
CHOICES = (AUTO, EAGER, *ENGINES)
"""What a person may ask for."""
