"""Hothouse: isolated sandboxes in about a millisecond.

    import hothouse

    with hothouse.Sandbox.create() as sandbox:
        print(sandbox.run("echo hello").stdout)

`Sandbox`, `Client` and what they give are for blocking code; the same names with `Async` before are for asynchronous
code. Every error derives from `HothouseError`.
"""

from importlib.metadata import version as _version

from ._async.client import AsyncClient
from ._async.contexts import AsyncContext
from ._async.events import EventStream as AsyncEventStream
from ._async.execs import AsyncExec
from ._async.files import AsyncFiles
from ._async.groups import AsyncGroup, AsyncGroups
from ._async.images import AsyncImages
from ._async.pools import AsyncPool, AsyncPools
from ._async.sandbox import AsyncSandbox
from ._async.shells import AsyncShell
from ._async.snapshots import AsyncSnapshots
from ._async.stream import ExecStream as AsyncExecStream
from ._async.templates import AsyncTemplates
from ._sync.client import Client
from ._sync.contexts import Context
from ._sync.events import EventStream
from ._sync.execs import Exec
from ._sync.files import Files
from ._sync.groups import Group, Groups
from ._sync.images import Images
from ._sync.pools import Pool, Pools
from ._sync.sandbox import Sandbox
from ._sync.shells import Shell
from ._sync.snapshots import Snapshots
from ._sync.stream import ExecStream
from ._sync.templates import Templates
from .errors import (
    ArchiveRefused,
    CapacityExceeded,
    CodeFailed,
    ConnectionBroken,
    ConnectionFailed,
    ContextBusy,
    ContextEnded,
    ContextExists,
    ContextNotFound,
    CreateFailed,
    ExecConflict,
    ExecFailed,
    ExecFinished,
    ExecNotFound,
    FileNotFound,
    FileRefused,
    Forbidden,
    GroupExists,
    GroupNotFound,
    HothouseError,
    IdempotencyConflict,
    ImageInUse,
    ImageInvalid,
    ImageNotFound,
    ImageUnavailable,
    Internal,
    InvalidRequest,
    KeyRevoked,
    LimitExceeded,
    LocalServerFailed,
    MethodNotAllowed,
    NoSpace,
    NotFound,
    NotListening,
    PatchRejected,
    PoolDraining,
    PoolExists,
    PoolInUse,
    PoolNotFound,
    QuotaExceeded,
    RateLimited,
    RequestError,
    SandboxDead,
    SandboxEnded,
    SandboxExists,
    SandboxFrozen,
    SandboxNotFound,
    SandboxRestored,
    ServerError,
    SetupFailed,
    ShellBusy,
    ShellExists,
    ShellNotFound,
    ShuttingDown,
    SnapshotExists,
    SnapshotInUse,
    SnapshotNotFound,
    TemplateInUse,
    TemplateNotFound,
    TimedOut,
    TooLarge,
    Unauthorized,
    Unsupported,
)
from .shapes.context import ContextInfo, Raised, Value, data_of
from .shapes.event import Event, Missed
from .shapes.exec import (
    ExecEvent,
    ExecResult,
    ExecStatus,
    Finished,
    Outcome,
    Output,
    OutputPiece,
    Skipped,
    Started,
    Truncated,
    Usage,
)
from .shapes.file import (
    FileInfo,
    FilesChanged,
    FileWritten,
)
from .shapes.group import EndedMany, EndedMember, Failed, GroupInfo, GroupSummary
from .shapes.image import ImageInfo, Pruned
from .shapes.lease import Ending, Lease
from .shapes.pool import (
    ClaimFile,
    PoolInfo,
    Template,
)
from .shapes.sandbox import (
    Capabilities,
    Capability,
    Health,
    PoolPlace,
    Resources,
    SandboxInfo,
    SandboxSpec,
    ShellInfo,
)
from .shapes.snapshot import Change, Diff, SnapshotInfo
from .shapes.stats import MemoryStats, NodeStats, SandboxStats, Taken

__version__ = _version("hothouse")

__all__ = [
    "ArchiveRefused",
    "AsyncClient",
    "AsyncContext",
    "AsyncEventStream",
    "AsyncExec",
    "AsyncExecStream",
    "AsyncFiles",
    "AsyncGroup",
    "AsyncGroups",
    "AsyncImages",
    "AsyncPool",
    "AsyncPools",
    "AsyncSandbox",
    "AsyncShell",
    "AsyncSnapshots",
    "AsyncTemplates",
    "Capabilities",
    "Capability",
    "CapacityExceeded",
    "Change",
    "ClaimFile",
    "Client",
    "CodeFailed",
    "ConnectionBroken",
    "ConnectionFailed",
    "Context",
    "ContextBusy",
    "ContextEnded",
    "ContextExists",
    "ContextInfo",
    "ContextNotFound",
    "CreateFailed",
    "Diff",
    "EndedMany",
    "EndedMember",
    "Ending",
    "Event",
    "EventStream",
    "Exec",
    "ExecConflict",
    "ExecEvent",
    "ExecFailed",
    "ExecFinished",
    "ExecNotFound",
    "ExecResult",
    "ExecStatus",
    "ExecStream",
    "Failed",
    "FileInfo",
    "FileNotFound",
    "FileRefused",
    "FileWritten",
    "Files",
    "FilesChanged",
    "Finished",
    "Forbidden",
    "Group",
    "GroupExists",
    "GroupInfo",
    "GroupNotFound",
    "GroupSummary",
    "Groups",
    "Health",
    "HothouseError",
    "IdempotencyConflict",
    "ImageInUse",
    "ImageInfo",
    "ImageInvalid",
    "ImageNotFound",
    "ImageUnavailable",
    "Images",
    "Internal",
    "InvalidRequest",
    "KeyRevoked",
    "Lease",
    "LimitExceeded",
    "LocalServerFailed",
    "MemoryStats",
    "MethodNotAllowed",
    "Missed",
    "NoSpace",
    "NodeStats",
    "NotFound",
    "NotListening",
    "Outcome",
    "Output",
    "OutputPiece",
    "PatchRejected",
    "Pool",
    "PoolDraining",
    "PoolExists",
    "PoolInUse",
    "PoolInfo",
    "PoolNotFound",
    "PoolPlace",
    "Pools",
    "Pruned",
    "QuotaExceeded",
    "Raised",
    "RateLimited",
    "RequestError",
    "Resources",
    "Sandbox",
    "SandboxDead",
    "SandboxEnded",
    "SandboxExists",
    "SandboxFrozen",
    "SandboxInfo",
    "SandboxNotFound",
    "SandboxRestored",
    "SandboxSpec",
    "SandboxStats",
    "ServerError",
    "SetupFailed",
    "Shell",
    "ShellBusy",
    "ShellExists",
    "ShellInfo",
    "ShellNotFound",
    "ShuttingDown",
    "Skipped",
    "SnapshotExists",
    "SnapshotInUse",
    "SnapshotInfo",
    "SnapshotNotFound",
    "Snapshots",
    "Started",
    "Taken",
    "Template",
    "TemplateInUse",
    "TemplateNotFound",
    "Templates",
    "TimedOut",
    "TooLarge",
    "Truncated",
    "Unauthorized",
    "Unsupported",
    "Usage",
    "Value",
    "data_of",
]
