"""`agenthuman avatars`: see the avatars of the account, and make one of a picture."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from agenthuman_plugins.cli._arguments import Commands, add_json
from agenthuman_plugins.cli._output import NOTHING, copyable, print_json, print_table, say

if TYPE_CHECKING:
    from agenthuman_plugins.client import Avatar


def add(commands: Commands) -> None:
    """Add the command."""
    avatars = commands.add_parser(
        "avatars", help="see avatars, and make one of a picture", description="See and make avatars."
    )
    actions = avatars.add_subparsers(title="actions", required=True, metavar="ACTION")

    listing = actions.add_parser(
        "list", help="list the avatars that a session can show", description="List avatars."
    )
    listing.set_defaults(run=_list)

    uploading = actions.add_parser(
        "upload",
        help="make an avatar of a picture",
        description=(
            "Make an avatar of a picture with exactly one face: jpeg, png, gif or webp, up to 10 MB. Each one"
            " counts against the plan."
        ),
    )
    uploading.add_argument("picture", metavar="FILE|URL", help="a file, or a public http(s) address")
    uploading.set_defaults(run=_upload)

    for action in (listing, uploading):
        add_json(action)
        action.set_defaults(extra="cli")


def _list(args: argparse.Namespace) -> None:
    from agenthuman_plugins.client import AgentHuman  # noqa: PLC0415 - slow to import

    with AgentHuman() as client:
        avatars = client.avatars.list()
    if args.json:
        print_json(avatars.model_dump(mode="json"))
    elif avatars.all:
        mine = {avatar.avatar_id for avatar in avatars.my_avatars}
        print_table(
            ("AVATAR", "WHOSE", "TAGS"),
            [
                (
                    copyable(avatar.avatar_id),
                    "yours" if avatar.avatar_id in mine else "public",
                    ", ".join(avatar.tags or ()) or avatar.name or NOTHING,
                )
                for avatar in avatars.all
            ],
        )
    else:
        say("No avatars.")


def _upload(args: argparse.Namespace) -> None:
    from agenthuman_plugins.client import AgentHuman  # noqa: PLC0415 - slow to import

    with AgentHuman() as client, _progress(shown=sys.stderr.isatty() and not args.json) as on_progress:
        avatar: Avatar = (
            client.avatars.upload_face(image_url=args.picture)
            if "://" in args.picture
            else client.avatars.upload_face(args.picture, on_progress=on_progress)
        )
    if args.json:
        print_json(avatar.model_dump(mode="json"))
    else:
        avatar_id = copyable(avatar.avatar_id)
        say(f"Made avatar {avatar_id}. To use it everywhere:\n")
        say(f"  export AGENTHUMAN_AVATAR={avatar_id}")


@contextlib.contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error that is gone in the end; standard output holds the result alone."""
    if not shown:
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - an extra
    from rich.progress import Progress  # noqa: PLC0415 - an extra

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Uploading", total=None)

        def on_progress(sent: int, total: int) -> None:
            waiting = "Looking for the face" if sent == total else "Uploading"
            progress.update(task, completed=sent, total=total, description=waiting)

        yield on_progress
