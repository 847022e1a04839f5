"""Uploads of large files: asked for in a batch, sent to signed addresses in one piece or in parts, then verified."""

import hashlib
import secrets
import shutil
from dataclasses import dataclass, field

from .messages import Answer, Call, Refusal
from .store import Contents, write_whole


@dataclass
class Upload:
    """A content that was announced, and the parts of it that came so far."""

    sha256: str
    size: int
    parts: dict[int, str] = field(default_factory=dict)


class Uploads:
    """The uploads under way, each by the secret in its address; whoever knows it may send, as with signed addresses.

    Args:
        contents: where contents go when they have come.
        part_size: contents above this many bytes are asked for in parts.
    """

    def __init__(self, contents: Contents, part_size: int = 16 * 1024 * 1024):
        self.contents, self.part_size = contents, part_size
        self.parts = contents.folder.with_name("parts")
        self.under_way: dict[str, Upload] = {}

    def batch(self, call: Call, endpoint: str) -> Answer:
        """Where to send each content that is not here yet."""
        request = call.json()
        objects = [
            self.announce(entry["oid"], entry["size"], endpoint, "multipart" in request.get("transfers", ()))
            for entry in request["objects"]
        ]
        return Answer.of({"transfer": "basic", "objects": objects})

    def announce(self, sha256: str, size: int, endpoint: str, in_parts: bool) -> dict:
        entry = {"oid": sha256, "size": size}
        if self.contents.path(sha256).exists():
            return entry
        secret = secrets.token_hex(12)
        self.under_way[secret] = Upload(sha256, size)
        upload: dict = {"href": f"{endpoint}/lfs/{secret}"}
        if in_parts and size > self.part_size:
            count = -(-size // self.part_size)
            parts = {f"{number:05}": f"{endpoint}/lfs/{secret}/{number}" for number in range(1, count + 1)}
            upload["header"] = {"chunk_size": str(self.part_size), **parts}
        return entry | {"actions": {"upload": upload, "verify": {"href": f"{endpoint}/lfs-verify"}}}

    def find(self, secret: str) -> Upload:
        if secret not in self.under_way:
            raise Refusal(403, "AccessDenied: this address was not signed")
        return self.under_way[secret]

    def receive(self, call: Call, secret: str) -> Answer:
        """The whole content in one piece."""
        upload = self.find(secret)
        self.contents.receive(iter(call.read, b""), upload.sha256, upload.size)
        return Answer()

    def receive_part(self, call: Call, secret: str, number: str) -> Answer:
        """One part of a content; its answer's ETag is asked for at the end."""
        upload, data = self.find(secret), call.body()
        write_whole(self.parts / secret / number, data)
        upload.parts[int(number)] = hashlib.sha256(data).hexdigest()
        return Answer(headers={"ETag": f'"{upload.parts[int(number)]}"'})

    def complete(self, call: Call, secret: str) -> Answer:
        """Put the parts together, which must be all there and add up to what was announced."""
        upload = self.find(secret)
        named = {part["partNumber"]: part["etag"].strip('"') for part in call.json()["parts"]}
        if named != upload.parts or sorted(named) != list(range(1, len(named) + 1)):
            raise Refusal(400, "InvalidPart: the parts named are not those that came")
        pieces = ((self.parts / secret / str(number)).read_bytes() for number in sorted(named))
        self.contents.receive(pieces, upload.sha256, upload.size)
        shutil.rmtree(self.parts / secret)
        return Answer.of({"success": True})

    def verify(self, call: Call) -> Answer:
        """Whether a content is here as it was announced."""
        entry = call.json()
        path = self.contents.path(entry["oid"])
        if not path.exists() or path.stat().st_size != entry["size"]:
            raise Refusal(404, "the content has not come")
        return Answer.of({"success": True})
