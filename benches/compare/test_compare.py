"""What could be wrong quietly: the sums, the parsing, the tables, and that a measured process is measured alone."""
from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import data
import report
from compare_trees import differences
from measure import Cgroup, Failed, Place, parse_du, run
from parts import SETTINGS, Results, chosen, rotated
from peers import pinned, snapshots_in
from plot import bars, lines
from s3 import free_port


def runs(*walls: float, peak: int = 2048, size: int = 1 << 20) -> report.Runs:
    return [{"wall": wall, "cpu": wall / 2, "peak": peak, "size": size} for wall in walls]


def example() -> dict[str, Any]:
    tools = {"kist": runs(2, 4, 3), "restic": runs(6, 8, 10, size=2 << 20), "borg": runs(4), "read": runs(1.5)}
    figures = {"mixed": {"cold": tools}, "growth-1": {"cold": {"kist": runs(1)}}, "growth-8": {"cold": {"kist": runs(7)}}}
    return {"machine": {"cores": 2, "cpu": "c", "memory_mib": 1, "kernel": "k"}, "failures": [], "figures": figures,
            "neighbour": [{"beside": "kist", "backups": 2, "median": 1.0, "p95": 2.0, "p99": 3.0}],
            "about": {name: "some" for name in figures},
            "settings": {"rounds": 3, "scale": 1, "versions": {"kist": "0"}, "missing": ["rustic"], "cold": True,
                         "file_system": "ext4"}}


class Sums(unittest.TestCase):
    def test_a_median_is_the_middle_and_of_two_their_mean(self) -> None:
        self.assertEqual(report.median(runs(9, 1, 2), "wall"), 2)
        self.assertEqual(report.median(runs(1, 2), "wall"), 1.5)

    def test_a_ratio_is_to_the_least_and_nothing_without_one(self) -> None:
        self.assertEqual(report.ratio(3, [6, 4]), "0.75")
        self.assertEqual((report.ratio(3, []), report.ratio(None, [1.0]), report.ratio(3, [0])), ("–", "–", "–"))

    def test_a_cell_has_median_spread_and_the_highest_peak(self) -> None:
        self.assertEqual(report.cell(runs(2, 12, 100)), "12.0 (2.00–100), 2 MiB")
        self.assertEqual((report.cell(runs(2)), report.cell(None)), ("2.00, 2 MiB", "–"))

    def test_a_limit_is_no_peer(self) -> None:
        cells = report.row("cold", example()["figures"]["mixed"]["cold"])
        self.assertEqual(cells[-3:], ["read 1.50", "0.75", "2.00"])

    def test_the_size_of_du_is_its_first_number(self) -> None:
        self.assertEqual(parse_du("1234\t/a 99/b\n"), 1234)
        self.assertRaises(Failed, parse_du, "du: no such file")


class Tables(unittest.TestCase):
    def test_every_row_has_the_columns_of_its_head(self) -> None:
        text = report.report(example()) + report.short(example(), "here")
        width = 0
        for line in text.splitlines():
            if line.startswith("|"):
                width = width or line.count("|")
                self.assertEqual(line.count("|"), width, line)
            else:
                width = 0

    def test_what_failed_is_said_once_and_without_its_command(self) -> None:
        again = ["a.cold by b: exit 1; b /x; oh", "a.cold by b: exit 1; b /y; no"]
        text = report.short({**example(), "failures": again}, "here")
        self.assertEqual(text.count("**FAILED**: a.cold by b: exit 1\n"), 1)
        self.assertNotIn("/x", text)

    def test_who_is_missing_is_named(self) -> None:
        self.assertIn("NOT COMPARED, because it could not be installed here: rustic", report.report(example()))

    def test_sizes_are_compared_with_the_smallest_peer(self) -> None:
        self.assertIn("| 1.0 | – | 2.0 | – | 1.0 | 1.00 |", report.sizes(example()))

    def test_the_marker_is_filled_and_filled_again(self) -> None:
        text = f"a\n{report.BEGIN}\nold\n{report.END}\nb\n"
        once = report.filled(text, "new\n")
        self.assertEqual(once, f"a\n{report.BEGIN}\nnew\n{report.END}\nb\n")
        self.assertEqual(report.filled(once, "new\n"), once)
        self.assertRaises(Failed, report.filled, "no marker", "new")

    def test_plots_are_well_formed_and_have_a_bar_for_each_tool(self) -> None:
        root = xml.etree.ElementTree.fromstring(bars(example()))
        drawn = [one.get("fill") for one in root.iter("{http://www.w3.org/2000/svg}rect")]
        # White paper, and three each in the legend and as bars.
        self.assertEqual(len(drawn), 1 + 3 + 3)
        xml.etree.ElementTree.fromstring(lines(example()))


class Parts(unittest.TestCase):
    def test_a_part_brings_what_it_needs(self) -> None:
        self.assertEqual(chosen(["mixed.prune", "growth-2.cold"]), {"mixed": ["cold", "some", "prune"], "growth-2": ["cold"]})
        self.assertEqual(list(chosen(["s3.cold"])), ["s3-0", "s3-30"])
        self.assertEqual(list(chosen([])), list(SETTINGS))
        for word in ("mix", "mixed.warm", "tree.prune"):
            self.assertRaises(Failed, chosen, [word])

    def test_each_is_first_in_turn(self) -> None:
        self.assertEqual(["".join(rotated(["a", "b", "c"], number)) for number in range(4)], ["abc", "bca", "cab", "abc"])
        self.assertEqual(list(rotated([], 2)), [])

    def test_an_earlier_run_of_a_setting_is_forgotten_and_no_other(self) -> None:
        results = Results({"mixed": {}, "s3-0": {}}, ["mixed.cold by borg: x", "mixed: y", "s3-0: z"])
        results.forget("mixed")
        self.assertEqual((list(results.figures), results.failures), (["s3-0"], ["s3-0: z"]))

    def test_snapshots_are_found_in_groups_and_out_of_them(self) -> None:
        one = {"id": "i", "time": "t", "tree": "r", "paths": ["p"]}
        self.assertEqual(snapshots_in([one]), [("t", "i")])
        self.assertEqual(snapshots_in([[{"host": "h"}, [one]], {"group_key": {}, "snapshots": [one]}]), [("t", "i")] * 2)

    def test_versions_are_those_of_the_installer(self) -> None:
        self.assertRegex(pinned("rustic"), r"^\d+\.\d+\.\d+$")
        self.assertRaises(Failed, pinned, "tarsnap")


class Data(unittest.TestCase):
    def test_changes_are_the_same_each_time_and_are_taken_back(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, scale in (("small", 0.004), ("big", 0.008), ("database", 0.004), ("mixed", 0.004)):
                one = data.DataSet(Path(folder) / "one", name, scale)
                two = data.DataSet(Path(folder) / "two", name, scale)
                one.prepare()
                two.prepare()
                self.assertEqual(differences(one.source, two.source), [])
                one.change()
                self.assertNotEqual(differences(one.source, two.source), [], name)
                two.change()
                self.assertEqual(differences(one.source, two.source), [], name)
                two.revert()
                one.prepare()
                self.assertEqual(differences(one.source, two.source), [], name)

    def test_a_wrong_restore_is_seen(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source, out = Path(folder) / "source", Path(folder) / "out"
            for place in (source / "a", out / "source" / "a"):
                place.mkdir(parents=True)
                data.write_file(place / "f", [b"same"], 1)
            self.assertEqual(differences(source, out), [])
            data.write_file(out / "source/a/f", [b"diff"], 1)
            (out / "source/a/more").touch()
            self.assertEqual(differences(source, out), ["a/more was not in the source", "a/f: another content"])


class Measuring(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.place = Place(Path(scratch.name), {"PATH": "/usr/bin:/bin"}, Path(scratch.name) / "log")

    def test_a_small_program_has_a_small_peak_though_the_bench_is_large(self) -> None:
        large = b"x" * (64 << 20)
        figure = run(["true"], self.place)
        self.assertLess(figure.peak, 32 << 10)
        self.assertEqual(len(large), 64 << 20)

    def test_memory_and_time_of_a_program_are_seen(self) -> None:
        busy = "x = b'x' * (96 << 20)\nimport time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
        figure = run([sys.executable, "-I", "-S", "-c", busy], self.place)
        self.assertGreater(figure.peak, 96 << 10)
        self.assertGreaterEqual(figure.cpu, 0.2)
        self.assertGreaterEqual(figure.wall, 0.2)

    @unittest.skipUnless(os.geteuid() == 0, "only root makes cgroups")
    def test_who_needs_more_than_the_cgroup_has_is_ended(self) -> None:
        group = Cgroup(48 << 20)
        try:
            self.place.join = [group.procs()]
            run([sys.executable, "-I", "-S", "-c", "x = b'x' * (16 << 20)"], self.place)
            with self.assertRaisesRegex(Failed, "signal 9"):
                run([sys.executable, "-I", "-S", "-c", "x = b'x' * (96 << 20)"], self.place)
        finally:
            group.remove()

    def test_what_fails_is_no_figure(self) -> None:
        with self.assertRaisesRegex(Failed, "exit 3; .*hm"):
            run(["sh", "-c", "echo hm; exit 3"], self.place)
        with self.assertRaisesRegex(Failed, "signal 9"):
            run(["sh", "-c", "kill -9 $$"], self.place)
        with self.assertRaisesRegex(Failed, "exit 127"):
            run(["there-is-no-such-program"], self.place)

    def test_who_does_not_come_to_an_end_is_ended_and_named(self) -> None:
        self.place.limit_seconds = 1
        with self.assertRaisesRegex(Failed, "not at its end after 1 s"):
            run(["sleep", "60"], self.place)


class Delay(unittest.TestCase):
    def test_a_question_through_the_proxy_takes_a_round_trip(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            near = free_port()
            words = [sys.executable, str(Path(__file__).parent / "s3.py"), str(near), str(server.getsockname()[1]), "100"]
            with subprocess.Popen(words) as proxy:
                self.addCleanup(proxy.terminate)
                threading.Thread(target=answer, args=(server,), daemon=True).start()
                with connected(near) as client:
                    client.sendall(b"?")
                    self.assertEqual(client.recv(8), b"?!")
                    start = time.monotonic()
                    client.sendall(b"?")
                    self.assertEqual(client.recv(8), b"?!")
                    self.assertGreaterEqual(time.monotonic() - start, 0.1)
                proxy.terminate()


def answer(server: socket.socket) -> None:
    far, _ = server.accept()
    with far:
        while data_in := far.recv(8):
            far.sendall(data_in + b"!")


def connected(port: int) -> socket.socket:
    end = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=10)
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


if __name__ == "__main__":
    unittest.main()
