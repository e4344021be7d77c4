"""Compares someone's implementation of a metric with the golden cases, and says how it differs.

A case is a small task made by formula (`benchmark.inspection.crosscheck.cases`). `check_metric` calls the function on
each case, compares its scores with ours, and where they differ looks for a known variant of the metric that gives the
same scores (`benchmark.testing.variants.catalogue`).
"""

from benchmark.testing.check import check_metric
from benchmark.testing.golden import golden_cases
from benchmark.testing.report import DifferenceError, Report
from benchmark.testing.variants.catalogue import Variant, variants_of

__all__ = ["DifferenceError", "Report", "Variant", "check_metric", "golden_cases", "variants_of"]
