"""The calls of `/v1/avatars`."""

from typing import Any

from agenthuman_plugins.client import _pictures
from agenthuman_plugins.client._calls import _checks
from agenthuman_plugins.client._calls._call import Call, OnProgress, Upload, told
from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.client.models import Avatar, AvatarList, AvatarPreview

_FORM = "avat_… or PUBLIC/…"


def upload_face(
    content: bytes | None,
    *,
    image_url: str | None = None,
    image_base64: str | None = None,
    on_progress: OnProgress | None = None,
) -> Call[Avatar]:
    """`POST /v1/avatars/upload-face`, in one of its three forms; each success counts against the plan.

    Source: docs.agenthuman.com, endpoints/upload-face-avatar.
    """
    forms = {"file": content, "image_url": image_url, "image_base64": image_base64}
    given = [name for name, value in forms.items() if value is not None]
    if len(given) != 1:
        raise ConfigurationError(
            f"Pass one of file, image_url and image_base64, not {' and '.join(given) or 'none of them'}."
        )
    upload, body = None, None
    if content is not None:
        upload = Upload(content, _pictures.media_type("file", content), on_progress)
    elif image_url is not None:
        body = {"image_url": _checks.url("image_url", image_url)}
    else:
        body = {"image_base64": _checks.base64_picture("image_base64", image_base64)}
    return Call(
        "POST",
        "/v1/avatars/upload-face",
        _uploaded,
        json=body,
        upload=upload,
        repeatable=False,
        secrets=() if image_url is None else (image_url,),
    )


def list_avatars() -> Call[AvatarList]:
    """`GET /v1/avatars`."""
    return Call("GET", "/v1/avatars", _avatars)


def preview_avatar(avatar_id: str) -> Call[AvatarPreview]:
    """`POST /v1/avatars/preview`."""
    return Call(
        "POST",
        "/v1/avatars/preview",
        lambda body: AvatarPreview.model_validate(told(body)),
        json={"avatar_id": _checks.identifier("avatar_id", avatar_id, _FORM)},
        repeatable=False,
    )


def delete_avatar(avatar_id: str) -> Call[None]:
    """`DELETE /v1/avatars/{id}`."""
    path = f"/v1/avatars/{_checks.segment('avatar_id', avatar_id, _FORM)}"
    return Call("DELETE", path, lambda _: None, repeatable=False)


def _uploaded(body: Any) -> Avatar:
    return Avatar.model_validate(told(body))


def _avatars(body: Any) -> AvatarList:
    # A bare array is what the oldest pages show.
    content = {"avatars": body} if isinstance(body, list) else told(body)
    if not AvatarList.model_fields.keys() & content.keys():
        raise LookupError("no list of avatars")  # which is not the same as no avatars
    return AvatarList.model_validate(content)
