"""The rows of all commits in manifest order, in bounded memory: sorted in runs, then merged block by block.

A run is some consecutive commits; a block is some consecutive row groups of the manifest. Every run is cut at the
borders of the blocks into a scratch file, so a block is put together from one piece of each run.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from caskit.manifests.rows import ROW_SCHEMA
from caskit.shards.records import Described
from caskit.shards.scan import ManifestScan, Roots, tar_sizes
from caskit.shards.tables import histogram_groups, parquet_writer, write_groups

RUN_ROWS = 2**17  # whole commits, so perhaps more
RUN_TABLES = 1024  # that wait as they are
BLOCK_ROWS = 2**17  # whole row groups, so perhaps more
_PLACES = np.dtype([(name, "i8") for name in ("sample_id", "place", "tar_offset", "nbytes")])


class Gathering:
    """Takes the rows of a set's commits one by one, in their order, and writes its manifest.

    Where it says no, the rows are not what the set's record of origin gives; which are not, it does not say.

    Args:
        described: the set, no view.
        scratch: a folder for this alone.
    """

    def __init__(self, described: Described, scratch: Path) -> None:
        self._described, self._path = described, scratch / "runs.arrow"
        self._starts = np.cumsum(described.histogram) - described.histogram
        groups, num = histogram_groups(described.histogram.tolist()), described.origin.num
        self._blocks = [0]
        for start in groups:
            if start - self._blocks[-1] >= BLOCK_ROWS:
                self._blocks.append(start)
        self._groups, self._bounds = groups, [*self._blocks, num]
        self._pieces: list[list[int]] = [[] for _ in self._blocks]  # by block, the numbers of its batches in the file
        self._counts = [0] * len(self._blocks)
        self._waiting: list[pa.Table] = []
        self._num_waiting, self._num_rows, self._num_pieces = 0, 0, 0
        options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1), use_threads=False)
        self._writer = pa.ipc.new_file(str(self._path), ROW_SCHEMA, options=options)

    def add(self, rows: pa.Table) -> bool:
        """Take the rows of the next shard; False if they, or some before them, are not right."""
        self._waiting.append(rows)
        self._num_waiting += rows.num_rows
        if len(self._waiting) >= RUN_TABLES:  # a table of ten rows takes the memory of a hundred
            self._waiting = [pa.concat_tables(self._waiting).combine_chunks()]
        return self._num_waiting < RUN_ROWS or self._sort()

    def _sort(self) -> bool:
        """Write what waits as a run."""
        run = pa.concat_tables(self._waiting).combine_chunks()
        self._waiting, self._num_waiting = [], 0
        places = self._places_of(run)
        if places is None or tar_sizes(self._described, self._num_rows, places) is None:
            return False
        self._num_rows += len(places)
        order = np.argsort(places["place"], kind="stable")
        run = run.take(order)
        bounds = np.searchsorted(places["place"][order], self._bounds).tolist()
        for block, (start, stop) in enumerate(itertools.pairwise(bounds)):
            if start < stop:
                self._writer.write_table(run.slice(start, stop - start).combine_chunks())
                self._pieces[block].append(self._num_pieces)
                self._counts[block] += stop - start
                self._num_pieces += 1
        return True

    def _places_of(self, run: pa.Table) -> np.ndarray | None:
        """Return where rows stand; None if one has no place in the manifest, or there are more of them than are due."""
        histogram, num = self._described.histogram, self._described.origin.num
        labels, ordinals = run.column("label").to_numpy(), run.column("ordinal").to_numpy()
        if labels.min(initial=0) < 0 or labels.max(initial=0) >= len(histogram) or ordinals.min(initial=0) < 0:
            return None
        if (ordinals >= histogram[labels]).any() or self._num_rows + run.num_rows > num:
            return None
        places = np.empty(run.num_rows, dtype=_PLACES)
        places["place"] = self._starts[labels] + ordinals
        for name in ("sample_id", "tar_offset", "nbytes"):
            places[name] = run.column(name).to_numpy()
        return places

    def finish(self, manifest: Path) -> Roots | None:
        """Write manifest.parquet to a path; None if the rows are not right, and then it is not whole."""
        fits = not self._waiting or self._sort()
        self._writer.close()
        if not fits or any(stop - start != n for start, stop, n in self._block_sizes()):
            return None
        scan = ManifestScan(self._described)
        with manifest.open("wb") as file, parquet_writer(file, ROW_SCHEMA) as writer:
            for start, stop, table in self._merged():
                if scan.add(table) is None:
                    return None
                write_groups(writer, table, [group - start for group in self._groups if start <= group < stop])
        return scan.roots()

    def _block_sizes(self) -> Iterator[tuple[int, int, int]]:
        return zip(self._bounds[:-1], self._bounds[1:], self._counts, strict=True)

    def _merged(self) -> Iterator[tuple[int, int, pa.Table]]:
        """Yield the places of every block, and its rows in manifest order."""
        with pa.OSFile(str(self._path)) as file:
            reader = pa.ipc.open_file(file)
            for start, stop, pieces in zip(self._bounds[:-1], self._bounds[1:], self._pieces, strict=True):
                table = pa.Table.from_batches([reader.get_batch(piece) for piece in pieces], ROW_SCHEMA)
                table = table.combine_chunks()
                labels, ordinals = table.column("label").to_numpy(), table.column("ordinal").to_numpy()
                order = np.argsort(self._starts[labels] + ordinals, kind="stable")
                yield start, stop, table.take(order).combine_chunks()
