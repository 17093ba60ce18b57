"""Chapter 11, opening: what a domain has come to. The log, the snapshots, where each record lies.

What does not hold counts as missing, and why is kept in `problems`: whoever holds the store must
not be able to stop a restore of what is whole by breaking something else. What only a fork, a loss
or a rollback explains is in `alarms`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import checkpoint
import codec
import index
import layout
import log
import snapshot
from codec import Refused
from crypto import digest
from index import Pack
from keys import MAINTAINER, OWNER, Domain
from layout import Place, epoch_of
from log import Alarm, Entry, Log
from snapshot import Commit, Session

ATTEMPTS = 8


class Store:
    """Objects in a folder, or those of a domain in theirs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def within(self, place: str) -> "Store":
        return Store(self.folder / place)

    def list(self, below: str) -> list[Place]:
        """What lies below a folder of the store, as far as it is kist's."""
        keys = []
        for at, _, names in os.walk(self.folder / below):
            above = Path(at).relative_to(self.folder)
            keys += [str(above / name) for name in names]
        places = [layout.place_of(key) for key in sorted(keys)]
        return [place for place in places if place.kind == below]

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


class View:
    """What one reading has found."""

    def __init__(self, store: Store, domain: Domain) -> None:
        self.store = store
        self.domain = domain
        self.log = Log()
        self.commits: list[Commit] = []
        self.seen: list[Commit] = []
        self.remembered: dict[bytes, list[tuple[int, bytes]]] = {}
        self.sessions: dict[bytes, Session] = {}
        self.places: dict[tuple[int, bytes], list[Where]] = {}
        self.problems: list[str] = []
        self.alarms: list[str] = []
        # What is wrong with the log behind the last renew; whether anything is, there or before.
        self.wrong: str | None = None
        self.has_holes = False

    def read(self, base: int) -> None:
        """In the order of the spec: the log, what is committed, the log on, the index."""
        parts = self._read_checkpoint(base) if base else []
        self._read_log()
        listed = [place for place in self.store.list("commits") if self._is_open(place)]
        self._read_log()
        if self.wrong is not None:
            self.alarms.append(self.wrong)
        if self.log.has_lost_checkpoint:
            self.alarms.append("a sweep has been built on, and its checkpoint is missing")
        for session in self.log.rows:
            self._attempt(layout.commit_key(session), partial(self._take_commit, session))
        for place in listed:
            self._attempt(place.key, partial(self._take_commit, place.id))
        for key, hash_ in parts:
            self._attempt(key, partial(self._take_part, key, hash_))
        for place in self.store.list("index"):
            if self._is_open(place):
                self._attempt(place.key, partial(self._take_delta, place))
        self.commits.sort(key=lambda commit: (commit.time, commit.session))

    def _attempt(self, key: str, take: Callable[[], None]) -> None:
        try:
            take()
        except Alarm as alarm:
            self.alarms.append(f"{key}: {alarm}")
        except (Refused, OSError) as error:
            self.problems.append(f"{key}: {error}")

    def _is_open(self, place: Place) -> bool:
        """Of an epoch that had not ended at the checkpoint: nothing there stands for it."""
        return epoch_of(place.id) >= self.log.base_epoch

    def _read_checkpoint(self, slot: int) -> list[tuple[str, bytes]]:
        """Begins the log there. Gives the keys of the parts of the index, and their hashes."""
        data = self.store.get(layout.checkpoint_key(slot), codec.CHECKPOINT_LEN)
        found = checkpoint.open_checkpoint(self.domain, slot, data)
        sweep = self._entry(slot)
        if sweep.digest != found.entry or sweep.kind != log.SWEEP:
            raise Alarm(f"entry {slot} is not the sweep that its checkpoint stands for")
        hashes = enumerate(found.state + found.index)
        parts = [(layout.part_key(slot, found.name, number), hash_) for number, hash_ in hashes]
        count = len(found.state)
        pieces = [checkpoint.piece_of(self._part(*part)) for part in parts[:count]]
        state = checkpoint.decode_state(b"".join(pieces))
        revoked = state.revoked.get(found.certificate.key_id, -1)
        if found.certificate.serial <= revoked:
            raise Alarm(f"the checkpoint of entry {slot} is by a key that was revoked before")
        self.remembered = state.remembered
        self.log = Log(
            base=slot,
            head=slot,
            epoch=found.epoch,
            base_epoch=found.epoch,
            rows={session: row.digest for session, row in state.rows.items()},
            facts=state.facts,
            swept=set(state.swept),
            damaged=set(state.damaged),
            revoked=state.revoked,
            last_observed=state.last_observed,
            digests={slot: found.entry},
            opened={found.epoch: sweep.condemned},
            last_sweep=slot,
        )
        return parts[count:]

    def _part(self, key: str, hash_: bytes) -> codec.Decoder:
        data = self.store.get(key, codec.INDEX_LEN)
        if digest(data) != hash_:
            raise Refused("invalid", f"{key} is not the part that the checkpoint names")
        return self.domain.open(key, data, codec.INDEX_LEN)

    def _entry(self, slot: int) -> Entry:
        data = self.store.get(layout.log_key(slot), codec.LOG_LEN)
        return log.open_entry(self.domain, slot, data)

    def _read_log(self) -> None:
        """Takes each entry that holds by itself, whatever lies between. What is wrong before a
        renew is known to the owner, and what the checkpoint stands for is not looked at."""
        last = max((place.number for place in self.store.list("gc")), default=0)
        for slot in range(self.log.head + 1, last + 1):
            try:
                entry = self._entry(slot)
            except (Refused, OSError) as error:
                is_missing = isinstance(error, FileNotFoundError)
                why = f"is missing below {last}" if is_missing else f"does not hold: {error}"
                self._found_wrong(slot, why)
                self.log.head = slot
                continue
            if entry.previous != self.log.digests.get(slot - 1):
                self._found_wrong(slot, "does not go on from the one before: the log was forked")
            if entry.kind == log.RENEW:
                self.wrong = None
            self.log.take(slot, entry)

    def _found_wrong(self, slot: int, why: str) -> None:
        self.wrong = self.wrong or f"entry {slot} of the log {why}"
        self.has_holes = True

    def _take_commit(self, session: bytes) -> None:
        fact, row = self.log.fact(session), self.log.rows.get(session)
        if fact.gone and row is not None:
            return
        try:
            data = self.store.get(layout.commit_key(session), codec.COMMIT_LEN)
        except FileNotFoundError:
            if row is None:
                raise
            raise Alarm("is missing, and the checkpoint has seen it") from None
        if row is not None and digest(data) != row:
            raise Alarm("not the commit that the checkpoint has seen")
        commit = snapshot.open_commit(self.domain, session, data)
        if not isinstance(commit, Commit):
            return
        if row is None:
            self._check_view(commit)
        self.seen.append(commit)
        if not fact.forgotten and not self.log.is_barred(commit.certificate, session):
            self.commits.append(commit)

    def _check_view(self, commit: Commit) -> None:
        view, epoch = commit.view, epoch_of(commit.session)
        if view > self.log.head:
            raise Alarm(f"has seen entry {view} of the log, which was shortened to {self.log.head}")
        first = self.log.opened.get(epoch)
        behind = self.log.opened.get(epoch + 1, view + 1)
        is_right = first is not None and first <= view < behind
        # Where an entry is lost, condemns can't be counted.
        if not is_right and not self.has_holes:
            raise Refused("invalid", f"a commit of epoch {epoch} can't have seen entry {view}")
        known = bytes(32) if view == 0 else self.log.digests.get(view)
        if known not in (None, commit.head):
            raise Alarm(f"has seen another entry {view} of the log: forked")

    def gaps(self) -> list[str]:
        """Commits whose predecessor is not there, as far back as predecessors are remembered."""
        known = {(commit.certificate.key_id, commit.digest) for commit in self.seen}
        oldest = {}
        for key, remembered in self.remembered.items():
            known.update((key, hash_) for _, hash_ in remembered)
            oldest[key] = remembered[0][0]
        gaps = []
        for commit in self.seen:
            key = commit.certificate.key_id
            is_known = not any(commit.previous) or (key, commit.previous) in known
            if not is_known and commit.sequence > oldest.get(key, 0):
                name = layout.short_name(commit.session)
                gaps.append(f"the commit before that of {name} is missing")
        return gaps

    def session(self, session: bytes) -> Session:
        if session not in self.sessions:
            data = self.store.get(layout.session_key(session), codec.SESSION_LEN)
            self.sessions[session] = snapshot.open_session(self.domain, session, data)
        return self.sessions[session]

    def _take_part(self, key: str, hash_: bytes) -> None:
        for pack in index.decode_part(self._part(key, hash_)):
            self._take_pack(pack)

    def _take_delta(self, place: Place) -> None:
        session = self.session(place.id)
        if place.lane >= len(session.lanes):
            raise Refused("invalid", "there is no lane that it belongs to")
        maker = session.certificate
        if self.log.is_barred(maker, place.id):
            return
        public = session.lanes[place.lane].signing
        data = self.store.get(place.key, codec.INDEX_LEN)
        packs = index.open_delta(self.domain, place.key, public, data)
        copies = maker.role in (OWNER, MAINTAINER)
        if not copies and any(pack.origin != maker.key_id for pack in packs):
            raise Refused("invalid", "names packs as those of another writer")
        for pack in packs:
            self._take_pack(pack)

    def _take_pack(self, pack: Pack) -> None:
        if pack.id in self.log.swept:
            return
        for record in pack.records:
            where = Where(pack.id, record.offset, record.length)
            self.places.setdefault((record.kind, record.id), []).append(where)

    def has_moved(self) -> bool:
        behind = self.store.folder / layout.log_key(self.log.head + 1)
        return newest_checkpoint(self.store) != self.log.base or behind.exists()


def newest_checkpoint(store: Store) -> int:
    return max((place.number for place in store.list("checkpoints")), default=0)


def open_view(store: Store, domain: Domain) -> View:
    """Begins again if there is a newer checkpoint: what it stands for may have been deleted
    meanwhile. A gap is looked at twice, because a list that takes time may see the later commit
    alone."""
    for attempt in range(ATTEMPTS):
        base = newest_checkpoint(store)
        view = View(store, domain)
        failed: Refused | OSError | None = None
        try:
            view.read(base)
        except (Refused, OSError) as error:
            failed = error
        if newest_checkpoint(store) != base:
            continue
        if failed is not None:
            raise failed
        gaps = view.gaps()
        if not gaps or attempt > 0:
            view.alarms += gaps
            return view
    raise Refused("invalid", "the repository changes faster than it can be read")
