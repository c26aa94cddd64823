"""What the server answers besides its own routes."""

from avatar import toolkit
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def left(request: Request) -> Response:
    """End the sessions of a conversation whose user has left, whichever worker opened them."""
    await toolkit.aend_sessions(request.path_params["thread_id"])
    return Response(status_code=204)


app = Starlette(routes=[Route("/left/{thread_id}", left, methods=["POST"])])
