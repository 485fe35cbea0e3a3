"""The part of qmtl that the bridge uses, as types.

qmtl ships no types, so type checkers read this page in its place; nothing here runs. A
test compares it with the installed qmtl, parameter by parameter, and with the double
that the other tests use: an upgrade of qmtl that moves something fails there first.
"""
# Names and shapes are qmtl's, and nothing has a body.
# ruff: noqa: A002, ANN401, B027, D101, D102, D103, PLR0917
# mypy: disable-error-code="empty-body"

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

T = TypeVar("T", bound=Callable[..., Any])

Payload = Any
"""What flows along an edge: qmtl lets it be anything."""


class CacheView:
    def __getitem__(self, key: Any) -> Any: ...


class NodeCache:
    def last_timestamps(self) -> dict[str, dict[int, int | None]]: ...
    def missing_flags(self) -> dict[str, dict[int, bool]]: ...


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


class Node:
    node_id: str
    name: str | None
    interval: int | None
    period: int | None
    tags: list[str]
    config: dict[str, Any]
    inputs: list["Node"]
    execute: bool
    compute_fn: Callable[[CacheView], Payload] | None
    cache: NodeCache
    pre_warmup: bool
    execution_domain: str
    world_id: str | None
    compute_context: ComputeContext

    def __init__(
        self,
        input: "Node | Iterable[Node] | None" = None,
        compute_fn: Callable[[CacheView], Payload] | None = None,
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
    ) -> None: ...

    def feed(
        self,
        upstream_id: str,
        interval: int,
        timestamp: int,
        payload: Payload,
        *,
        on_missing: str = "skip",
    ) -> bool: ...

    def apply_compute_context(self, context: ComputeContext) -> None: ...


class ProcessingNode(Node):
    def __init__(
        self,
        input: Node | Iterable[Node],
        *args: Any,
        **kwargs: Any,
    ) -> None: ...


class HistoryProvider(ABC):
    def bind_stream(self, stream: Any) -> None: ...

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
    history_provider: HistoryProvider | None

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
    ) -> None: ...


class Strategy:
    nodes: list[Node]

    def __init__(
        self,
        *,
        default_interval: int | str | None = None,
        default_period: int | None = None,
    ) -> None: ...
    def add_nodes(self, nodes: Any) -> None: ...
    def setup(self) -> None: ...
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
    ) -> None: ...
    def feed(
        self,
        node: Node,
        timestamp: int,
        payload: Payload,
        *,
        on_missing: str = "skip",
    ) -> None: ...


class HistoryWarmupService:
    def __init__(self, loader: Any = None) -> None: ...
    async def warmup_strategy(
        self,
        strategy: Strategy,
        *,
        offline_mode: bool,
        history_start: Any,
        history_end: Any,
    ) -> None: ...


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
    ) -> Any: ...

    @classmethod
    def set_feature_artifact_plane(
        cls, plane: "FeatureArtifactPlane | None"
    ) -> None: ...


@dataclass(frozen=True)
class NodeSet:
    _nodes: tuple[Node, ...]
    name: str = "nodeset"
    version: str | None = None
    modes: tuple[str, ...] | None = None
    portfolio_scope: Literal["strategy", "world"] | None = None
    descriptor: Any | None = None

    @property
    def nodes(self) -> list[Node]: ...
    def __iter__(self) -> Iterator[Node]: ...


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

    def validate_inputs(self, inputs: dict[str, Node]) -> None: ...
    def build(
        self,
        inputs: dict[str, Node],
        *,
        world_id: str,
        options: Any = None,
    ) -> NodeSet: ...


def nodeset_recipe(name: str) -> Callable[[T], T]: ...


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
    def write(self, key: FeatureArtifactKey, payload: Payload) -> None: ...
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
    backend: FeatureStoreBackend
    write_domains: set[str]

    def __init__(
        self,
        backend: FeatureStoreBackend,
        *,
        write_domains: Iterable[str] | None = None,
    ) -> None: ...
    def configure(
        self,
        *,
        dataset_fingerprint: str | None = None,
        execution_domain: str | None = None,
    ) -> None: ...
    def record(self, factor: Any, timestamp: int, payload: Payload) -> None: ...


class Metric(Protocol):
    def labels(self, *values: str) -> "Metric": ...
    def inc(self, amount: float = 1.0) -> None: ...
    def set(self, value: float) -> None: ...
    def observe(self, amount: float) -> None: ...


def get_or_create_counter(
    name: str,
    documentation: str,
    labelnames: Sequence[str] | None = None,
    *,
    registry: Any = None,
    test_value_attr: str | None = None,
    test_value_factory: Callable[[], Any] | None = None,
    reset: Callable[[Any], None] | None = None,
) -> Metric: ...


def get_or_create_gauge(
    name: str,
    documentation: str,
    labelnames: Sequence[str] | None = None,
    *,
    registry: Any = None,
    test_value_attr: str | None = None,
    test_value_factory: Callable[[], Any] | None = None,
    reset: Callable[[Any], None] | None = None,
) -> Metric: ...


def get_or_create_histogram(
    name: str,
    documentation: str,
    labelnames: Sequence[str] | None = None,
    *,
    registry: Any = None,
    test_value_attr: str | None = None,
    test_value_factory: Callable[[], Any] | None = None,
    reset: Callable[[Any], None] | None = None,
) -> Metric: ...


def find_config_file(cwd: Any = None) -> str | None: ...


def set_no_ray() -> None:
    """Keep qmtl from handing compute functions to Ray (ours; see `sdk`)."""


def set_fixed_now(now_s: int | None) -> int | None:
    """Set what time it is for qmtl's warm-up (ours; see `sdk`)."""
    return now_s
