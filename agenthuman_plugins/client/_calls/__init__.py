"""One pure function per endpoint: what to send, and how to read the answer. No I/O."""

from agenthuman_plugins.client._calls._agents import (
    create_agent,
    delete_agent,
    get_agent,
    list_agents,
    update_agent,
)
from agenthuman_plugins.client._calls._avatars import (
    delete_avatar,
    list_avatars,
    preview_avatar,
    upload_face,
)
from agenthuman_plugins.client._calls._call import Call, OnProgress, Upload
from agenthuman_plugins.client._calls._links import (
    create_link,
    delete_link,
    get_link,
    list_links,
    start_session_by_link,
    update_link,
)
from agenthuman_plugins.client._calls._sessions import (
    create_session,
    end_session,
    get_session,
    list_sessions,
    start_session,
    with_metadata,
)
from agenthuman_plugins.client._calls._usage import get_usage

__all__ = [
    "Call",
    "OnProgress",
    "Upload",
    "create_agent",
    "create_link",
    "create_session",
    "delete_agent",
    "delete_avatar",
    "delete_link",
    "end_session",
    "get_agent",
    "get_link",
    "get_session",
    "get_usage",
    "list_agents",
    "list_avatars",
    "list_links",
    "list_sessions",
    "preview_avatar",
    "start_session",
    "start_session_by_link",
    "update_agent",
    "update_link",
    "upload_face",
    "with_metadata",
]
