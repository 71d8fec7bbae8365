"""Every exception that crosses a module border, drawn as a tree.

    TrunklineError
    ├── RequestError                 what a caller did wrong; one HTTP status each (api.errors)
    │   ├── Invalid                  400  a value is malformed or contradicts another
    │   ├── Unauthorized             401  no token, or one that nobody knows
    │   ├── Forbidden                403  known caller, not allowed
    │   ├── NotFound                 404  no such object, or none the caller may know of
    │   ├── Conflict                 409  in use, taken, or exhausted
    │   ├── Outdated                 412  the object is not as the caller believes
    │   ├── TooLarge                 413  the body is larger than the server reads
    │   └── TooManyRequests          429  too often; it says when to come again
    ├── ServerUnavailable            the API did not answer; retryable by nature
    └── KernelError                  the host refused or lacks something
        ├── MissingFeature           this kernel or machine cannot do it; not retryable
        ├── Interrupted              a dump was torn or a daemon was slow; retryable
        └── Rejected                 the kernel said no to one operation

Each message names the object, says what was wrong, and what to do about it.
"""


class TrunklineError(Exception):
    """The root: catch this to catch all that Trunkline raises on purpose."""

    retryable = False


class RequestError(TrunklineError):
    """A request that cannot be carried out as asked; nothing was changed.

    Attributes:
        kind: The Networking API's error type, such as ``NetworkNotFound``; clients map it
            to exception classes of their own.
    """

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind or type(self).__name__


class Invalid(RequestError):
    """A value is malformed, unknown, or contradicts another one."""


class Unauthorized(RequestError):
    """No token came with the request, or one that the server does not know."""


class Forbidden(RequestError):
    """The caller is known and may see the object, but not do this to it."""


class NotFound(RequestError):
    """No such object, or none that the caller may know of."""


class Conflict(RequestError):
    """The request contradicts what exists: in use, already taken, or nothing left."""


class Outdated(RequestError):
    """The object has changed since the caller read it; reading it again helps."""


class TooLarge(RequestError):
    """The request body is larger than the server is willing to read."""


class TooManyRequests(RequestError):
    """The caller does this too often.

    Attributes:
        after_s: Seconds after which it may be tried again.
    """

    def __init__(self, message: str, after_s: int) -> None:
        super().__init__(message)
        self.after_s = after_s


class ServerUnavailable(TrunklineError):
    """The API server, or a Keystone, was not reached or answered 5xx; later may help."""

    retryable = True


class KernelError(TrunklineError):
    """The host's kernel or one of its daemons did not do what was asked."""


class MissingFeature(KernelError):
    """This kernel or machine lacks something; the message says what to load or install."""


class Interrupted(KernelError):
    """A reading was torn by a concurrent change, or a daemon did not answer in time."""

    retryable = True


class Rejected(KernelError):
    """One operation was refused; the message carries the command and the kernel's answer."""

    retryable = True
