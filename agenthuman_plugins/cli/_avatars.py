"""`agenthuman avatars`: see the avatars of the account, make one of a picture, and delete one."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from agenthuman_plugins.cli._account import connect
from agenthuman_plugins.cli._arguments import add_json
from agenthuman_plugins.cli._errors import CommandError, UsageError
from agenthuman_plugins.cli._output import (
    NOTHING,
    agrees,
    can_ask,
    copyable,
    print_json,
    print_table,
    say,
)
from agenthuman_plugins.cli._parser import ACCOUNT, Commands

if TYPE_CHECKING:
    from agenthuman_plugins.client import Avatar


def add(commands: Commands) -> None:
    """Add the command."""
    avatars = commands.add_parser(
        "avatars",
        help="see avatars, and make one of a picture",
        description="See, make and delete avatars.",
        environment=ACCOUNT,
        examples=("agenthuman avatars list", "agenthuman avatars upload face.jpg"),
    )
    actions = avatars.add_actions("actions")

    listing = actions.add_parser(
        "list",
        help="list the avatars that a session can show",
        description="List the avatars of the account and the public ones.",
        environment=ACCOUNT,
        examples=("agenthuman avatars list --json | jq -r '.my_avatars[].avatar_id'",),
    )
    listing.set_defaults(run=_list)

    uploading = actions.add_parser(
        "upload",
        help="make an avatar of a picture",
        description=(
            "Make an avatar of a picture with exactly one face: jpeg, png, gif or webp, up to 10 MB. Each one"
            " counts against the plan."
        ),
        environment=ACCOUNT,
        examples=(
            "agenthuman avatars upload face.jpg",
            "agenthuman avatars upload https://example.com/face.png",
        ),
    )
    uploading.add_argument("picture", metavar="FILE|URL", help="a file, or a public http(s) address")
    uploading.set_defaults(run=_upload)

    deleting = actions.add_parser(
        "delete",
        help="delete an avatar of the account",
        description="Delete an avatar of the account, for good.",
        environment=ACCOUNT,
        examples=("agenthuman avatars delete avat_01KMZHXFPBVCXA5ATK85HCP8G1",),
    )
    deleting.add_argument("avatar_id", metavar="AVATAR_ID", help="an avatar that is yours")
    deleting.add_argument("--yes", action="store_true", help="delete it without a question")
    deleting.set_defaults(run=_delete)

    for action in (listing, uploading, deleting):
        add_json(action)
        action.set_defaults(extra="cli")


def _list(args: argparse.Namespace) -> None:
    with connect() as client:
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
            wrap_last=True,
        )
    else:
        say("No avatars.")


def _upload(args: argparse.Namespace) -> None:
    with connect() as client, _progress(shown=sys.stderr.isatty() and not args.json) as on_progress:
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


def _delete(args: argparse.Namespace) -> None:
    avatar_id = copyable(args.avatar_id)
    with connect() as client:
        if not args.yes:
            if args.json or not can_ask():
                raise UsageError("To delete an avatar without a question, add --yes.")
            if not agrees(f"Delete avatar {avatar_id} for good?"):
                raise CommandError("Nothing was deleted.")
        client.avatars.delete(args.avatar_id)
    if args.json:
        print_json({"deleted": args.avatar_id})
    else:
        say(f"Deleted avatar {avatar_id}.")


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
