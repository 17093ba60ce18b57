"""A repository in a local folder: chapter 8's order of reading, and records by their ids.

What does not hold counts as missing, and why is kept in `problems`: whoever holds the store must
not be able to stop a restore of what is whole by breaking something else.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import codec
import index
import layout
import pack
import snapshot
from codec import CHUNK, NODE, Refused
from keys import DataKey, Keys, MetaKey, decode_key_file, decode_slot, keys_of, lane_key
from layout import Config, Place
from snapshot import Commit, Session
from tree import Node, decode_node

CACHE_LEN = 64 << 20


class Lost(Exception):
    """A record, or all that hangs on it, that the repository can't give."""


class Store:
    """Objects in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def list(self, below: str) -> list[Place]:
        """What lies below a folder of the store, as far as it is kist's."""
        keys = []
        for at, _, names in os.walk(self.folder / below):
            above = Path(at).relative_to(self.folder)
            keys += [str(above / name) for name in names]
        return [layout.place_of(key) for key in sorted(keys)]

    def get(self, key: str, most: int) -> bytes:
        with open(self.folder / key, "rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise Refused("too-much", f"{key} has more than {most} bytes")
        return data

    def range(self, key: str, offset: int, length: int) -> bytes:
        with open(self.folder / key, "rb") as file:
            file.seek(offset)
            data = file.read(length)
        if len(data) < length:
            raise Refused("short", f"{key} ends at {offset + len(data)}")
        return data


@dataclass(frozen=True)
class Where:
    pack: bytes
    offset: int
    length: int


class Repository:
    def __init__(self, store: Store, config: Config, keys: Keys) -> None:
        self.store = store
        self.config = config
        self.keys = keys
        self.ids = keys.ids()
        self.problems: list[str] = []
        self.commits: list[Commit] = []
        self.sessions: dict[bytes, Session] = {}
        self.places: dict[tuple[int, bytes], list[Where]] = {}
        self.lane_keys: dict[DataKey, bytes] = {}
        self.cache: OrderedDict[bytes, bytes] = OrderedDict()
        self.cached = 0

    def load(self) -> None:
        """Commits before the index, the index before sessions: what comes later has what the
        earlier needs."""
        for place in [*self.store.list("gc"), *self.store.list("commits")]:
            if place.kind == "commits":
                self._attempt(place, self._load_commit)
        deltas = [place for place in self.store.list("index") if place.kind == "index"]
        for place in self.store.list("sessions"):
            if place.kind == "sessions":
                self._attempt(place, self._load_session)
        for place in deltas:
            self._attempt(place, self._load_delta)

    def _attempt(self, place: Place, load: Callable[[Place], None]) -> None:
        try:
            load(place)
        except (Refused, OSError) as error:
            self.problems.append(f"{place.key}: {error}")

    def _load_commit(self, place: Place) -> None:
        data = self.store.get(place.key, codec.COMMIT_LEN)
        commit = snapshot.open_commit(self.keys.structure, self.config, place.id, data)
        if commit is not None:
            self.commits.append(commit)

    def _load_session(self, place: Place) -> None:
        data = self.store.get(place.key, codec.SESSION_LEN)
        session = snapshot.open_session(self.keys.structure, self.config, place.id, data)
        self.sessions[place.id] = session

    def _load_delta(self, place: Place) -> None:
        session = self.sessions.get(place.id)
        if session is None or place.lane >= len(session.lanes):
            raise Refused("invalid", "there is no session, or no lane, that it belongs to")
        public = session.lanes[place.lane].signing
        data = self.store.get(place.key, codec.INDEX_LEN)
        structure, repository = self.keys.structure, self.config.repository
        for one in index.open_delta(structure, repository, place.key, public, data):
            for record in one.records:
                where = Where(one.id, record.offset, record.length)
                self.places.setdefault((record.kind, record.id), []).append(where)

    def chunk(self, name: bytes) -> bytes:
        if name in self.cache:
            self.cache.move_to_end(name)
            return self.cache[name]
        [plain] = self._record(CHUNK, name, None)
        self.cache[name] = plain
        self.cached += len(plain)
        while self.cached > CACHE_LEN:
            self.cached -= len(self.cache.popitem(last=False)[1])
        return plain

    def node(self, name: bytes, key: MetaKey) -> Node:
        references, entries = self._record(NODE, name, key)
        return decode_node(references, entries)

    def _record(self, kind: int, name: bytes, key: MetaKey | None) -> list[bytes]:
        """Tries all places of a record, since one of them may be damaged."""
        reasons = []
        for where in self.places.get((kind, name), []):
            try:
                return self._record_at(where, kind, name, key)
            except (Refused, OSError) as error:
                reasons.append(f"{layout.pack_key(where.pack)} at {where.offset}: {error}")
        what = "chunk" if kind == CHUNK else "node"
        raise Lost(f"{what} {name.hex()}: {'; '.join(reasons) or 'is in no index'}")

    def _record_at(self, where: Where, kind: int, name: bytes, key: MetaKey | None) -> list[bytes]:
        record = self.store.range(layout.pack_key(where.pack), where.offset, where.length)
        structure, repository = self.keys.structure, self.config.repository
        header = pack.open_header(structure, repository, record[: pack.HEADER_LEN])
        if (header.kind, header.id) != (kind, name):
            raise Refused("invalid", "another record lies there than the index says")
        if key is not None and header.key != key:
            raise Refused("invalid", "a node of another source")
        boxes = pack.parts_of(header, record)
        if isinstance(header.key, DataKey):
            lane = self._lane_key(header.key)
            plains = pack.open_record(header, boxes, repository, [lane])
            self.ids.check_chunk(name, plains[0])
            return plains
        meta = self.keys.meta(header.key)
        if meta is None:
            raise Refused("crypto", "no key for the names of this source is at hand")
        plains = pack.open_record(header, boxes, repository, [structure, meta])
        self.ids.check_node(name, header.key, *plains)
        return plains

    def _lane_key(self, name: DataKey) -> bytes:
        if name not in self.lane_keys:
            session = self.sessions.get(name.session)
            if session is None or name.lane >= len(session.lanes):
                raise Refused("invalid", f"session {name.session.hex()} has no such lane")
            if self.keys.recipient is None:
                raise Refused("crypto", "this key opens no content: a writer's never does")
            wrapped = session.lanes[name.lane].wrapped
            self.lane_keys[name] = lane_key(
                self.keys.recipient, self.config, name.session, name.lane, wrapped
            )
        return self.lane_keys[name]


def open_with_key_file(store: Store, text: str) -> Repository:
    key = decode_key_file(text)
    config = layout.decode_config(store.get("config", codec.CONFIG_LEN))
    if key.repository != config.repository:
        raise Refused("crypto", "the key file is of another repository")
    place = f"keys/{key.key_id.hex()}"
    slot = decode_slot(key.key_id, store.get(place, codec.SLOT_LEN + 39))
    secrets = slot.open(config.repository, key.unlock)
    return Repository(store, config, keys_of(secrets, config))


def open_with_passphrase(store: Store, passphrase: bytes) -> Repository:
    """Tries each slot that a passphrase may open: a slot does not say whose it is."""
    config = layout.decode_config(store.get("config", codec.CONFIG_LEN))
    reasons = []
    for place in store.list("keys"):
        try:
            if place.kind != "keys":
                continue
            slot = decode_slot(place.id, store.get(place.key, codec.SLOT_LEN + 39))
            if slot.lock is None:
                continue
            secrets = slot.open(config.repository, slot.unlock_key(passphrase))
            return Repository(store, config, keys_of(secrets, config))
        except (Refused, OSError) as error:
            reasons.append(f"{place.key}: {error}")
    raise Refused("crypto", "; ".join(reasons) or "no slot is for a passphrase")
