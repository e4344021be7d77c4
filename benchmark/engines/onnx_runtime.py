"""ONNX Runtime, on CPUs in fp32."""

from __future__ import annotations

import logging
import warnings

import torch
from torch import Tensor

from benchmark.core.types import Precision
from benchmark.engines.engine import EngineError, Exported, Forward


def build(exported: Exported, rows: Tensor, precision: Precision) -> Forward:
    """See `Builder`."""
    import onnxruntime

    if precision != "fp32" or rows.device.type != "cpu":
        raise EngineError(f"onnxruntime runs fp32 on a CPU here, got {precision} on {rows.device.type}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(_graph(exported, rows), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def forward(x: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: x.contiguous().numpy()})[0])

    return forward


def _graph(exported: Exported, rows: Tensor) -> bytes:
    """Return the model as ONNX, for any number of rows."""
    dynamic = {0: torch.export.Dim.DYNAMIC} | dict.fromkeys(exported.dynamic, torch.export.Dim.DYNAMIC)
    rows = rows if len(rows) > 1 else rows.expand(2, *rows.shape[1:])  # one row would be taken for the number 1
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the exporter tells of each step
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                exported.module, (rows.clone(),), dynamo=True, dynamic_shapes=(dynamic,), verbose=False
            )
    finally:
        logging.disable(level)
    assert program is not None
    return program.model_proto.SerializeToString()
