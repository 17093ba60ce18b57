"""A repository in a local folder: opened with a key, it gives records by their ids."""

from collections import OrderedDict

import codec
import layout
import pack
from codec import CHUNK, NODE, Refused
from keys import DataKey, Keys, MetaKey, lane_key
from opening import Store, View, Where, open_view
from slots import KeyFile, decode_slot, keys_of
from tree import Node, decode_node

CACHE_LEN = 64 << 20
SLOT_OBJECT_LEN = 39 + 296 + codec.SLOT_LEN


class Lost(Exception):
    """A record, or all that hangs on it, that the repository can't give."""


class Repository:
    def __init__(self, top: Store, keys: Keys) -> None:
        self.store = top.within(layout.domain_place(keys.domain.id))
        self.config = keys.domain.config
        self.keys = keys
        self.view = open_view(self.store, keys.domain)
        self.lane_keys: dict[DataKey, bytes] = {}
        self.cache: OrderedDict[bytes, bytes] = OrderedDict()
        self.cached = 0

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
        """Tries all places of a record, since one of them may fail; and again if what was read has
        been replaced meanwhile."""
        while True:
            try:
                return self._record_of(self.view, kind, name, key)
            except Lost:
                if not self.view.has_moved():
                    raise
            self.view = open_view(self.store, self.keys.domain)

    def _record_of(self, view: View, kind: int, name: bytes, key: MetaKey | None) -> list[bytes]:
        reasons = []
        places = view.places.get((kind, name), [])
        for where in sorted(places, key=lambda where: where.pack in view.log.damaged):
            try:
                return self._record_at(where, kind, name, key)
            except (Refused, OSError) as error:
                reasons.append(f"{layout.pack_key(where.pack)} at {where.offset}: {error}")
        what = "chunk" if kind == CHUNK else "node"
        raise Lost(f"{what} {name.hex()}: {'; '.join(reasons) or 'is in no index'}")

    def _record_at(self, where: Where, kind: int, name: bytes, key: MetaKey | None) -> list[bytes]:
        record = self.store.range(layout.pack_key(where.pack), where.offset, where.length)
        structure, repository = self.keys.domain.structure, self.config.repository
        header = pack.open_header(structure, repository, record[: pack.HEADER_LEN])
        if (header.kind, header.id) != (kind, name):
            raise Refused("invalid", "another record lies there than the index says")
        if key is not None and header.key != key:
            raise Refused("invalid", "a node of another source")
        boxes = pack.parts_of(header, record)
        if isinstance(header.key, DataKey):
            lane = self._lane_key(header.key)
            plains = pack.open_record(header, boxes, repository, [lane])
            self.keys.ids.check_chunk(name, plains[0])
            return plains
        meta = self.keys.meta(header.key)
        if meta is None:
            raise Refused("crypto", "no key for the names of this source is at hand")
        plains = pack.open_record(header, boxes, repository, [structure, meta])
        self.keys.ids.check_node(name, header.key, *plains)
        return plains

    def _lane_key(self, name: DataKey) -> bytes:
        if name not in self.lane_keys:
            lanes = self.view.session(name.session).lanes
            if name.lane >= len(lanes):
                raise Refused("invalid", f"session {name.session.hex()} has no such lane")
            wrapped = lanes[name.lane].wrapped
            self.lane_keys[name] = lane_key(
                self.keys.recipients, self.config, name.session, name.lane, wrapped
            )
        return self.lane_keys[name]


def open_with_key(store: Store, key: KeyFile, domain: str | None) -> Repository:
    config = layout.decode_config(store.get("config", codec.CONFIG_LEN))
    if key.repository != config.repository:
        raise Refused("crypto", "the key is of another repository")
    slot = decode_slot(key.slot_id, store.get(f"keys/{key.slot_id.hex()}", SLOT_OBJECT_LEN))
    return Repository(store, keys_of(slot.open(config.repository, key.unlock), config, domain))


def open_with_passphrase(store: Store, passphrase: bytes, domain: str | None) -> Repository:
    """Tries each slot that a passphrase may open: a slot does not say whose it is."""
    config = layout.decode_config(store.get("config", codec.CONFIG_LEN))
    reasons = []
    for place in store.list("keys"):
        try:
            slot = decode_slot(place.id, store.get(place.key, SLOT_OBJECT_LEN))
            if slot.lock is None:
                continue
            secrets = slot.open(config.repository, slot.unlock_key(passphrase))
            keys = keys_of(secrets, config, domain)
        except (Refused, OSError) as error:
            reasons.append(f"{place.key}: {error}")
            continue
        return Repository(store, keys)
    raise Refused("crypto", "; ".join(reasons) or "no slot is for a passphrase")
