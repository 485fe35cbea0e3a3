"""A qmtl small enough to read: the signatures that the bridge uses, and what they do.

Rule: it behaves as the bridge's users see qmtl behave, traps included, and no further.
`tests/runtime/qmtl_bridge/test_signatures.py` compares it with the real one.
"""
# ruff: noqa: A002, PLR0917 - as qmtl has it

import hashlib
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, Literal, Protocol, cast

BRIDGE = ("beta_factory.runtime.qmtl_bridge", "beta_factory.qmtl")
"""What is bound to the qmtl that it was imported with."""

_UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds(interval: int | str | None) -> int | None:
    if isinstance(interval, str):
        return int(interval[:-1]) * _UNITS[interval[-1]]
    return interval


@dataclass(frozen=True, slots=True)
class ComputeContext:
    world_id: str = ""
    execution_domain: str = "default"
    as_of: str | None = None
    partition: str | None = None
    dataset_fingerprint: str | None = None
    downgraded: bool = False
    downgrade_reason: Any = None
    safe_mode: bool = False


class CacheView:
    def __init__(self, data: Any) -> None:
        self._data: Any = data

    def __getitem__(self, key: Any) -> Any:
        value: object = self._data[getattr(key, "node_id", key)]
        if isinstance(key, slice) or not isinstance(value, dict | list):
            return cast("Any", value)
        return CacheView(value)


class NodeCache:
    def __init__(self, period: int) -> None:
        self.period = period
        self.rows: dict[tuple[str, int], list[tuple[int, Any]]] = {}
        self._last: dict[tuple[str, int], int] = {}
        self._missing: dict[tuple[str, int], bool] = {}

    def append(self, upstream: str, interval: int, timestamp: int, row: Any) -> None:
        key, bucket = (upstream, interval), timestamp - timestamp % interval
        last = self._last.get(key)
        self._missing[key] = (
            last is not None and bucket >= last and (bucket != last + interval)
        )
        self._last[key] = bucket if last is None else max(bucket, last)
        rows = self.rows.setdefault(key, [])
        rows.append((bucket, row))
        del rows[: -self.period]

    def clear(self) -> None:
        self.rows, self._last, self._missing = {}, {}, {}

    def ready(self) -> bool:
        return all(len(rows) == self.period for rows in self.rows.values())

    def last_timestamps(self) -> dict[str, dict[int, int | None]]:
        found: dict[str, dict[int, int | None]] = {}
        for (upstream, interval), ts in self._last.items():
            found.setdefault(upstream, {})[interval] = ts
        return found

    def missing_flags(self) -> dict[str, dict[int, bool]]:
        found: dict[str, dict[int, bool]] = {}
        for (upstream, interval), flag in self._missing.items():
            found.setdefault(upstream, {})[interval] = flag
        return found

    def view(self) -> CacheView:
        data: dict[str, dict[int, Any]] = {}
        for (upstream, interval), rows in self.rows.items():
            data.setdefault(upstream, {})[interval] = list(rows)
        return CacheView(data)


class Node:
    def __init__(
        self,
        input: "Node | Iterable[Node] | None" = None,
        compute_fn: Callable[[CacheView], Any] | None = None,
        name: str | None = None,
        interval: int | str | None = None,
        period: int | None = None,
        tags: list[str] | None = None,
        config: dict[str, Any] | None = None,
        schema: dict[str, Any] | None = None,
        expected_schema: dict[str, Any] | None = None,
        *,
        allowed_lateness: int = 0,
        on_late: str = "recompute",
        runtime_compat: str = "loose",
        validator: Any = None,
        hash_utils: Any = None,
        event_service: Any = None,
    ) -> None:
        if compute_fn is not None:
            assert len(inspect.signature(compute_fn).parameters) == 1
        self.inputs = (
            [] if input is None else [input] if isinstance(input, Node) else [*input]
        )
        self.compute_fn = compute_fn
        self.name = name
        self.interval = seconds(interval)
        self.period = period
        self.node_id: str
        self.tags = tags or []
        self.config = config or {}
        self.execute = True
        self.on_late = on_late
        self.allowed_lateness = allowed_lateness
        self.event_service = event_service
        self.cache = NodeCache(period or 0)
        self.pre_warmup = True
        self.compute_context = ComputeContext()
        deps = [node.node_id for node in self.inputs]
        code = inspect.getsource(compute_fn) if compute_fn else ""
        spec = repr((self.interval, period, sorted(self.config.items()), deps, code))
        self.node_id = f"double:{hashlib.sha256(spec.encode()).hexdigest()}"

    @property
    def execution_domain(self) -> str:
        return self.compute_context.execution_domain

    @property
    def world_id(self) -> str | None:
        return self.compute_context.world_id or None

    @world_id.setter
    def world_id(self, value: str) -> None:
        context = self.compute_context
        self.apply_compute_context(ComputeContext(value, context.execution_domain))

    def apply_compute_context(self, context: ComputeContext) -> None:
        if context != self.compute_context:
            self.compute_context = context
            self.pre_warmup = True
            self.cache.clear()

    def feed(
        self,
        upstream_id: str,
        interval: int,
        timestamp: int,
        payload: Any,
        *,
        on_missing: str = "skip",
    ) -> bool:
        self.cache.append(upstream_id, interval, timestamp, payload)
        if self.event_service is not None:
            self.event_service.record(self.node_id, interval, timestamp, payload)
        if self.pre_warmup and self.cache.ready():
            self.pre_warmup = False
        if self.cache.missing_flags()[upstream_id][interval]:
            if on_missing == "fail":
                raise RuntimeError("gap detected")
            return False
        return not self.pre_warmup and self.compute_fn is not None


class ProcessingNode(Node):
    def __init__(self, input: Node | Iterable[Node], *args: Any, **kwargs: Any) -> None:
        super().__init__(input, *args, **kwargs)
        assert self.inputs


class HistoryProvider(ABC):
    def bind_stream(self, stream: Any) -> None:
        self._stream_id = stream.node_id

    @abstractmethod
    async def fetch(
        self, start: int, end: int, *, node_id: str, interval: int
    ) -> Any: ...

    @abstractmethod
    async def coverage(
        self, *, node_id: str, interval: int
    ) -> list[tuple[int, int]]: ...

    @abstractmethod
    async def ensure_range(
        self, start: int, end: int, *, node_id: str, interval: int
    ) -> None: ...

    @abstractmethod
    async def fill_missing(
        self, start: int, end: int, *, node_id: str, interval: int
    ) -> None: ...


class StreamInput(Node):
    def __init__(
        self,
        tags: list[str] | None = None,
        interval: int | str | None = None,
        period: int | None = None,
        *,
        history_provider: Any = None,
        event_service: Any = None,
        validator: Any = None,
        hash_utils: Any = None,
        **node_kwargs: Any,
    ) -> None:
        super().__init__(
            None,
            None,
            "stream_input",
            interval,
            period,
            tags,
            event_service=event_service,
            **node_kwargs,
        )
        self.history_provider = history_provider
        if history_provider is not None:
            history_provider.bind_stream(self)


class Strategy:
    def __init__(
        self, *, default_interval: Any = None, default_period: int | None = None
    ) -> None:
        self.nodes: list[Node] = []

    def add_nodes(self, nodes: Any) -> None:
        if isinstance(nodes, Node):
            self.nodes.append(nodes)
        else:
            for node in nodes:
                self.add_nodes(node)

    def setup(self) -> None:
        raise NotImplementedError

    def on_start(self) -> None: ...

    def on_error(self, error: Exception) -> None: ...

    def on_finish(self) -> None: ...


class Pipeline:
    def __init__(
        self,
        nodes: list[Node],
        *,
        producer: Any = None,
        feed_fn: Callable[..., Any] | None = None,
    ) -> None:
        self._children: dict[Node, list[Node]] = {node: [] for node in nodes}
        for node in nodes:
            for upstream in node.inputs:
                self._children.setdefault(upstream, []).append(node)

    def feed(
        self, node: Node, timestamp: int, payload: Any, *, on_missing: str = "skip"
    ) -> None:
        node.feed(node.node_id, node.interval or 0, timestamp, payload)
        self._propagate(node, timestamp, payload, on_missing)

    def _propagate(self, node: Node, ts: int, payload: Any, on_missing: str) -> None:
        for child in self._children.get(node, []):
            ready = child.feed(
                node.node_id, node.interval or 0, ts, payload, on_missing=on_missing
            )
            out = payload
            if child.compute_fn is not None and child.execute:
                out = child.compute_fn(child.cache.view()) if ready else None
            if out is not None:
                self._propagate(child, ts, out, on_missing)


class HistoryWarmupService:
    def __init__(self, loader: Any = None) -> None: ...

    async def warmup_strategy(
        self,
        strategy: Strategy,
        *,
        offline_mode: bool,
        history_start: Any,
        history_end: Any,
    ) -> None:
        events: list[tuple[int, Node, Any]] = []
        for node in strategy.nodes:
            if isinstance(node, StreamInput) and node.history_provider is not None:
                assert node.interval is not None
                frame = await node.history_provider.fetch(
                    0, 2**40, node_id=node.node_id, interval=node.interval
                )
                rows = frame.iter_rows(named=True)
                events += [(row["ts"], node, row) for row in rows][-node.period :]  # type: ignore[operator]
        pipeline = Pipeline(strategy.nodes)
        for ts, node, row in sorted(events, key=lambda event: event[0]):
            pipeline.feed(node, ts, row)


class Runner:
    @classmethod
    def submit(
        cls,
        strategy_cls: Any,
        *,
        world: str | None = None,
        preset: str | None = None,
        preset_mode: str | None = None,
        preset_version: str | None = None,
        preset_overrides: dict[str, float] | None = None,
        data_preset: str | None = None,
        returns: list[float] | None = None,
        auto_returns: Any = None,
        auto_validate: bool = True,
    ) -> Any:
        import asyncio  # noqa: PLC0415

        strategy = strategy_cls
        if isinstance(strategy, type):
            strategy = strategy()
            strategy.setup()
        asyncio.run(
            HistoryWarmupService().warmup_strategy(
                strategy, offline_mode=True, history_start=None, history_end=None
            )
        )
        return SimpleNamespace(status="pending")

    @classmethod
    def set_feature_artifact_plane(cls, plane: Any) -> None: ...


@dataclass(frozen=True)
class NodeSet:
    _nodes: tuple[Node, ...]
    name: str = "nodeset"
    version: str | None = None
    modes: tuple[str, ...] | None = None
    portfolio_scope: Literal["strategy", "world"] | None = None
    descriptor: Any | None = None

    @property
    def nodes(self) -> list[Node]:
        return list(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        yield from self._nodes


@dataclass(frozen=True)
class PortSpec:
    name: str
    required: bool = True
    description: str | None = None


@dataclass(frozen=True)
class NodeSetDescriptor:
    name: str
    inputs: tuple[PortSpec, ...]
    outputs: tuple[PortSpec, ...]


class NodeSetAdapter:
    descriptor: NodeSetDescriptor

    def validate_inputs(self, inputs: dict[str, Node]) -> None:
        for port in self.descriptor.inputs:
            if port.required and port.name not in inputs:
                raise ValueError(f"missing required Node Set inputs: {port.name}")

    def build(
        self, inputs: dict[str, Node], *, world_id: str, options: Any = None
    ) -> NodeSet:
        raise NotImplementedError


RECIPES: dict[str, Callable[..., NodeSet]] = {}


def nodeset_recipe(name: str) -> Callable[[Any], Any]:
    def register(builder: Any) -> Any:
        RECIPES[name] = builder
        return builder

    return register


@dataclass(frozen=True)
class FeatureArtifactKey:
    factor: str
    interval: int
    params: str
    instrument: str
    timestamp: int
    dataset_fingerprint: str
    version: int = 1


class FeatureStoreBackend(Protocol):
    def write(self, key: FeatureArtifactKey, payload: Any) -> None: ...

    def load_series(
        self,
        *,
        factor: str,
        interval: int,
        params: str,
        instrument: str,
        dataset_fingerprint: str,
        start: int | None = None,
        end: int | None = None,
    ) -> list[tuple[int, Any]]: ...

    def list_instruments(
        self, *, factor: str, params: str, dataset_fingerprint: str
    ) -> Iterable[str]: ...

    def count(
        self,
        *,
        factor: str,
        interval: int,
        params: str,
        instrument: str,
        dataset_fingerprint: str,
    ) -> int: ...


class FeatureArtifactPlane:
    def __init__(
        self,
        backend: FeatureStoreBackend,
        *,
        write_domains: Iterable[str] | None = None,
    ) -> None:
        self.backend = backend
        self.write_domains = set(write_domains or ("backtest", "dryrun"))

    def configure(
        self,
        *,
        dataset_fingerprint: str | None = None,
        execution_domain: str | None = None,
    ) -> None:
        self._dataset = dataset_fingerprint

    def record(self, factor: Any, timestamp: int, payload: Any) -> None:
        if factor.execution_domain in self.write_domains:
            key = FeatureArtifactKey(
                factor.node_id,
                factor.interval,
                "",
                payload["symbol"],
                timestamp,
                self._dataset or "",
            )
            self.backend.write(key, payload)


class DoubleMetric:
    """A counter, gauge or histogram; keeps its values by label."""

    by_name: ClassVar[dict[str, "DoubleMetric"]] = {}

    def __init__(self) -> None:
        self.values: dict[tuple[str, ...], float] = {}
        self._labels: tuple[str, ...] = ()

    def labels(self, *values: str) -> "DoubleMetric":
        child = DoubleMetric()
        child.values = self.values
        child._labels = values
        return child

    def inc(self, amount: float = 1.0) -> None:
        self.values[self._labels] = self.values.get(self._labels, 0.0) + amount

    def set(self, value: float) -> None:
        self.values[self._labels] = value

    observe = inc


def get_or_create_counter(
    name: str,
    documentation: str,
    labelnames: Sequence[str] | None = None,
    *,
    registry: Any = None,
    test_value_attr: str | None = None,
    test_value_factory: Callable[[], Any] | None = None,
    reset: Callable[[Any], None] | None = None,
) -> DoubleMetric:
    return DoubleMetric.by_name.setdefault(name, DoubleMetric())


get_or_create_gauge = get_or_create_counter
get_or_create_histogram = get_or_create_counter


def find_config_file(cwd: Path | None = None) -> str | None:
    path = (cwd or Path.cwd()) / "qmtl.yml"
    return str(path) if path.is_file() else None


runtime = SimpleNamespace(NO_RAY=False, FIXED_NOW=None)

PLACES: dict[str, tuple[str, ...]] = {
    "qmtl.foundation.common.compute_key": ("ComputeContext",),
    "qmtl.foundation.common.metrics_factory": (
        "get_or_create_counter",
        "get_or_create_gauge",
        "get_or_create_histogram",
    ),
    "qmtl.foundation.config": ("find_config_file",),
    "qmtl.runtime.nodesets.adapter": (
        "NodeSetAdapter",
        "NodeSetDescriptor",
        "PortSpec",
    ),
    "qmtl.runtime.nodesets.base": ("NodeSet",),
    "qmtl.runtime.nodesets.registry": ("nodeset_recipe",),
    "qmtl.runtime.pipeline": ("Pipeline",),
    "qmtl.runtime.sdk": (
        "CacheView",
        "HistoryProvider",
        "Node",
        "ProcessingNode",
        "Runner",
        "Strategy",
        "StreamInput",
        "runtime",
    ),
    "qmtl.runtime.sdk.feature_store.base": (
        "FeatureArtifactKey",
        "FeatureStoreBackend",
    ),
    "qmtl.runtime.sdk.feature_store.plane": ("FeatureArtifactPlane",),
    "qmtl.runtime.sdk.history_warmup_service": ("HistoryWarmupService",),
}
"""Where qmtl has its names."""


def _modules() -> dict[str, ModuleType]:
    modules: dict[str, ModuleType] = {}
    for place, names in PLACES.items():
        parts = place.split(".")
        for depth in range(1, len(parts) + 1):
            name = ".".join(parts[:depth])
            if name not in modules:
                modules[name] = ModuleType(name)
                modules[name].__path__ = []
        for name in names:
            setattr(modules[place], name, globals()[name])
    return modules


@contextmanager
def installed() -> Generator[Any]:
    """Import `beta_factory.qmtl` with the double as its qmtl, and yield it."""
    with _fresh_bridge():
        modules = _modules()
        sys.modules.update(modules)
        try:
            yield import_module("beta_factory.qmtl")
        finally:
            for name in modules:
                sys.modules.pop(name, None)


@contextmanager
def _fresh_bridge() -> Generator[None]:
    def bound(name: str) -> bool:
        roots = (*BRIDGE, "qmtl")
        return any(name == root or name.startswith(f"{root}.") for root in roots)

    kept = {name: sys.modules.pop(name) for name in [*sys.modules] if bound(name)}
    parents = [import_module("beta_factory"), import_module("beta_factory.runtime")]
    attributes = [(p, n, getattr(p, n, None)) for p in parents for n in _LEAVES]
    try:
        yield
    finally:
        for name in [name for name in sys.modules if bound(name)]:
            del sys.modules[name]
        sys.modules.update(kept)
        for parent, name, value in attributes:
            if value is not None:
                setattr(parent, name, value)
            elif hasattr(parent, name):
                delattr(parent, name)


_LEAVES = tuple(name.rpartition(".")[2] for name in BRIDGE)
