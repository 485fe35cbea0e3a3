"""The one door to qmtl: what the bridge uses of it, by name.

Rule: no other module imports qmtl. Type checkers are shown `signatures` instead, so
that the same code is checked whether qmtl is installed or not.
"""

from typing import TYPE_CHECKING

from ...messages import ExtraMissingError

if TYPE_CHECKING:
    from .signatures import (
        CacheView,
        ComputeContext,
        FeatureArtifactKey,
        FeatureArtifactPlane,
        FeatureStoreBackend,
        HistoryProvider,
        HistoryWarmupService,
        Metric,
        Node,
        NodeSet,
        NodeSetAdapter,
        NodeSetDescriptor,
        Payload,
        Pipeline,
        PortSpec,
        ProcessingNode,
        Runner,
        Strategy,
        StreamInput,
        find_config_file,
        get_or_create_counter,
        get_or_create_gauge,
        get_or_create_histogram,
        nodeset_recipe,
        set_fixed_now,
        set_no_ray,
    )
else:
    try:
        from qmtl.foundation.common.compute_key import ComputeContext
        from qmtl.foundation.common.metrics_factory import (
            get_or_create_counter,
            get_or_create_gauge,
            get_or_create_histogram,
        )
        from qmtl.foundation.config import find_config_file
        from qmtl.runtime.nodesets.adapter import (
            NodeSetAdapter,
            NodeSetDescriptor,
            PortSpec,
        )
        from qmtl.runtime.nodesets.base import NodeSet
        from qmtl.runtime.nodesets.registry import nodeset_recipe
        from qmtl.runtime.pipeline import Pipeline
        from qmtl.runtime.sdk import (
            CacheView,
            HistoryProvider,
            Node,
            ProcessingNode,
            Runner,
            Strategy,
            StreamInput,
            runtime,
        )
        from qmtl.runtime.sdk.feature_store.base import (
            FeatureArtifactKey,
            FeatureStoreBackend,
        )
        from qmtl.runtime.sdk.feature_store.plane import FeatureArtifactPlane
        from qmtl.runtime.sdk.history_warmup_service import HistoryWarmupService
    except ImportError as error:
        raise ExtraMissingError("qmtl", str(error)) from error

    Payload = object
    Metric = object

    def set_no_ray() -> None:
        """Keep qmtl from handing compute functions to Ray, which drops results."""
        runtime.NO_RAY = True

    def set_fixed_now(now_s: int | None) -> int | None:
        """Set what time it is for qmtl's warm-up; return what was set before."""
        before = runtime.FIXED_NOW
        runtime.FIXED_NOW = now_s
        return before


__all__ = [
    "CacheView",
    "ComputeContext",
    "FeatureArtifactKey",
    "FeatureArtifactPlane",
    "FeatureStoreBackend",
    "HistoryProvider",
    "HistoryWarmupService",
    "Metric",
    "Node",
    "NodeSet",
    "NodeSetAdapter",
    "NodeSetDescriptor",
    "Payload",
    "Pipeline",
    "PortSpec",
    "ProcessingNode",
    "Runner",
    "Strategy",
    "StreamInput",
    "find_config_file",
    "get_or_create_counter",
    "get_or_create_gauge",
    "get_or_create_histogram",
    "nodeset_recipe",
    "set_fixed_now",
    "set_no_ray",
]
