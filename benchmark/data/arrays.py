"""Reads arrays of numbers from files of others: npy, npz, safetensors, parquet and csv; never a pickle."""

from __future__ import annotations

import csv
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.core.errors import DataError, UsageError, did_you_mean, few, short

if TYPE_CHECKING:
    import pandas as pd

Arrays = dict[str, np.ndarray]
NO_PICKLE = "pickles are never read, since reading one can run code: save plain numbers with numpy.save or numpy.savez"


def split_key(text: str | Path) -> tuple[Path, str | None]:
    """Return the file and the key of FILE:KEY, or the file and None where no key is given.

    Example:
        >>> split_key("maps.npz:lime"), split_key("maps.npz")
        ((PosixPath('maps.npz'), 'lime'), (PosixPath('maps.npz'), None))
    """
    path = str(text)
    for ending in READERS:
        file, found, key = path.partition(f"{ending}:")
        if found and key and not Path(path).exists():
            return Path(file + ending), key
    return Path(path), None


def read(
    path: str | Path, *, key: str | None = None, finite: bool = False, dims: Sequence[int] | None = None
) -> np.ndarray:
    r"""Return one array of real numbers from a file.

    Args:
        path: a .npy, .npz, .safetensors, .parquet or .csv file; `FILE.npz:KEY` chooses an array of several. A table
            (.parquet, .csv) is one array (rows, columns), or with a key the column (rows,) of that name.
        key: which array; the same as KEY.
        finite: refuse NaN and infinity.
        dims: how many axes the array may have; None for any number.

    Returns:
        The array in the number type that it was stored in (bfloat16 as float32), in the byte order of this machine.

    Raises:
        UsageError: the file is in wrong use: the ending is unknown, no array has the key, there are several and no key
            was given, the shape or type is another, or it is a pickle.
        DataError: the file is missing, empty or damaged, or holds what is no finite number where that is asked for.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "rows.csv")
        >>> _ = path.write_text("age,height\n31,1.7\n45,1.8\n")
        >>> read(path)
        array([[31. ,  1.7],
               [45. ,  1.8]])
        >>> read(f"{path}:age")
        array([31., 45.])
    """
    file, named = split_key(path)
    key = key if key is not None else named
    arrays = read_all(file, key=key)
    if len(arrays) > 1:
        raise UsageError(
            f"{file} holds {len(arrays)} arrays ({few(list(arrays))}), expected one: choose with "
            f"{file}:{next(iter(arrays))}"
        )
    array = next(iter(arrays.values()))
    label = f"{file}:{key}" if key is not None else str(file)
    if dims is not None and array.ndim not in dims:
        raise UsageError(
            f"{label}: expected an array of {' or '.join(map(str, dims))} axes, got shape {array.shape}; reshape it"
        )
    if finite:
        refuse_not_finite(array, label)
    return array


def read_all(path: str | Path, *, key: str | None = None) -> Arrays:
    """Return every array of a file by name, or the one that a key chooses.

    A file of one array without a name has it under the file's own, without the ending.

    Args:
        path: see `read`.
        key: of the array to read alone.

    Raises:
        UsageError, DataError: see `read`.
    """
    file, named = split_key(path)
    key = key if key is not None else named
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise UsageError(
            f"{file}: expected a file that ends in {', '.join(READERS)}, got {file.suffix or 'no ending'!r}; "
            + (NO_PICKLE if file.suffix.lower() in PICKLED else "convert it")
        )
    if not file.is_file():
        raise DataError(f"{file}: no such file; check the path")
    if file.stat().st_size == 0:
        raise DataError(f"{file} is empty, expected an array; write it again")
    try:
        arrays = reader(file, key)
    except (UsageError, DataError):
        raise
    except MemoryError as error:
        raise DataError(f"{file} says that it holds more than fits the memory; give fewer rows at a time") from error
    except Exception as error:  # of the parsers of five formats, which raise what they like on damage
        why = f"{type(error).__name__}: {short(error)}"
        raise DataError(f"{file} cannot be read as {file.suffix[1:]} ({why}); write it again") from error
    return {name: _real(array, f"{file}:{name}" if len(arrays) > 1 else str(file)) for name, array in arrays.items()}


def column_names(path: str | Path) -> tuple[str, ...] | None:
    r"""Return what the columns of a table that `read` gives are called, or None where they have no names.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "rows.csv")
        >>> _ = path.write_text("age,height\n31,1.7\n")
        >>> column_names(path)
        ('age', 'height')
    """
    file, key = split_key(path)
    if key is not None:
        return None
    if file.suffix.lower() == ".csv":
        with file.open(encoding="utf-8-sig", newline="") as stream:
            names = _header(next(row for row in csv.reader(stream) if row), file)
        return None if names is None else tuple(names)
    if file.suffix.lower() == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pq.read_schema(file)
        columns = _columns(schema)
        kinds = [schema.field(name).type for name in columns]
        lists = any(pa.types.is_nested(kind) for kind in kinds)
        return None if lists else tuple(columns)
    return None


def row_names(path: str | Path) -> pd.Index | None:
    """Return the index that pandas stored with a parquet table, or None where its rows are only counted."""
    file, _ = split_key(path)
    if file.suffix.lower() != ".parquet":
        return None
    import pandas as pd

    index = pd.read_parquet(file, columns=[]).index
    return None if index.equals(pd.RangeIndex(len(index))) else index


def in_order(
    array: np.ndarray, names: Sequence[str] | None, columns: Sequence[str] | None, file: str
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return a table with its columns in the order of others, and the names that are known now.

    Args:
        array: the table (rows, columns).
        names: of its columns; None where they have none, and stand in order.
        columns: the names in the order that is meant; None where nothing has had names so far.
        file: of the table, for sentences.

    Raises:
        UsageError: columns are called otherwise.

    Example:
        >>> in_order(np.array([[1, 2]]), ["b", "a"], ["a", "b"], "x.csv")
        (array([[2, 1]]), ('a', 'b'))
    """
    if names is None:
        return array, None if columns is None else tuple(columns)
    if columns is None:  # those before had numbers alone
        numbered = [str(i) for i in range(len(names))]
        columns = numbered if set(names) == set(numbered) else names
    lost, odd = ([name for name in one if name not in other] for one, other in ((columns, names), (names, columns)))
    if lost or odd:
        has = " and ".join([f"no column {few(lost)}"] * bool(lost) + [f"an unknown one, {few(odd)}"] * bool(odd))
        raise UsageError(f"{file} has {has}: expected the columns {few(columns)}, in any order; rename them")
    return array[:, [list(names).index(name) for name in columns]], tuple(columns)


def refuse_not_finite(array: np.ndarray, label: str) -> None:
    """Make sure that all numbers are finite.

    Raises:
        DataError: one is not; the sentence names the first.
    """
    wrong = ~np.isfinite(array)
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise DataError(
            f"{label}: expected finite numbers, got {array[first]} at {list(first)} ({int(wrong.sum()):,} of "
            f"{array.size:,} are not finite); mend or drop them"
        )


def _real(array: np.ndarray, label: str) -> np.ndarray:
    """Return real numbers in native byte order."""
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise UsageError(
            f"{label}: expected real numbers, got the type {array.dtype}; convert it to float32 or float64"
        )
    if array.size == 0 or array.ndim == 0:
        raise UsageError(f"{label}: expected an array with at least one row, got shape {array.shape}")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _chosen(names: Sequence[str], key: str | None, file: Path) -> Sequence[str]:
    if not names:
        raise DataError(f"{file} holds no array, expected one; write it again")
    if key is None:
        return names
    if key not in names:
        raise UsageError(f"{file} has no array {key!r}" + did_you_mean(key, names))
    return [key]


def _npy(file: Path, key: str | None) -> Arrays:
    names = _chosen([file.stem], key, file)
    with file.open("rb") as stream:
        _refuse_pickle(stream.read(8), file)
    try:  # mapped first: what the header promises is compared with the size of the file before memory is taken
        return {names[0]: np.array(np.load(file, mmap_mode="r", allow_pickle=False))}
    except ValueError as error:
        if "hon object" in str(error) or "bject arrays" in str(error):
            raise UsageError(f"{file}: expected an array of numbers, got one of Python objects; {NO_PICKLE}") from error
        raise


def _npz(file: Path, key: str | None) -> Arrays:
    with file.open("rb") as stream:
        start = stream.read(8)
    if not zipfile.is_zipfile(file):
        _refuse_pickle(start, file)
        raise DataError(f"{file} is no whole npz archive; it was cut or is damaged: write it again")
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {}
            for name in _chosen(archive.files, key, file):
                try:
                    arrays[name] = archive[name]
                except ValueError as error:
                    if "bject arrays" not in str(error):
                        raise
                    raise UsageError(
                        f"{file}:{name}: expected an array of numbers, got one of Python objects; {NO_PICKLE}"
                    ) from error
                if not isinstance(arrays[name], np.ndarray):
                    raise UsageError(f"{file}:{name}: expected an array, got other bytes; write it with numpy.savez")
            return arrays
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error) as error:
        raise DataError(f"{file} is damaged ({short(error)}); write it again") from error


def _refuse_pickle(start: bytes, file: Path) -> None:
    """Refuse a file that does not begin as NumPy's do; one that begins as a pickle is called so."""
    if start.startswith((b"\x93NUMPY", b"PK")):
        return
    if start[:1] == b"\x80":
        raise UsageError(f"{file}: expected NumPy's format, got a pickle; {NO_PICKLE}")
    raise DataError(f"{file}: expected NumPy's format, got something else; write it again with numpy.save")


def _safetensors(file: Path, key: str | None) -> Arrays:
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in _chosen(sorted(opened.keys()), key, file)}
    except SafetensorError as error:
        raise DataError(f"{file} is no whole safetensors file ({short(error)}); write it again") from error
    return {name: (t.float() if t.dtype == torch.bfloat16 else t).numpy() for name, t in tensors.items()}


def _parquet(file: Path, key: str | None) -> Arrays:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except pa.ArrowException as error:
        raise DataError(f"{file} is no whole parquet file ({short(error)}); write it again") from error
    names = _chosen(_columns(table.schema), key, file)
    arrays = [_column(table[name], f"{file}, column {name}") for name in names]
    if key is not None or (len(names) == 1 and arrays[0].ndim > 1):
        return {names[0]: arrays[0]}
    if lists := [name for name, array in zip(names, arrays, strict=True) if array.ndim > 1]:
        raise UsageError(f"{file}: the column {lists[0]} holds lists beside others; choose it with {file}:{lists[0]}")
    return {file.stem: np.stack(arrays, 1)}


def _columns(schema: Any) -> list[str]:
    """Return the names of a parquet table's columns, without the index that pandas stores."""
    indices = (schema.pandas_metadata or {}).get("index_columns", ())
    return [name for name in schema.names if name not in indices]


def _column(column: object, label: str) -> np.ndarray:
    """Return a column of numbers (N,), or of lists of one length (N, length)."""
    import pyarrow as pa

    chunks = column.combine_chunks()  # type: ignore[attr-defined]
    if isinstance(chunks, pa.ChunkedArray):
        chunks = pa.concat_arrays(chunks.chunks) if chunks.num_chunks else pa.array([], chunks.type)
    if empty := chunks.null_count:
        raise DataError(f"{label}: expected a number in each row, got {empty:,} rows without; mend or drop them")
    kind = chunks.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        lengths = {kind.list_size} if pa.types.is_fixed_size_list(kind) else set(chunks.value_lengths().to_pylist())
        if len(lengths) != 1:
            raise UsageError(f"{label}: expected lists of one length, got {few(sorted(lengths))}; pad them")
        inner = _column(pa.chunked_array([chunks.flatten()]), label)
        return inner.reshape(len(chunks), *lengths, *inner.shape[1:])
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise UsageError(f"{label}: expected numbers, got the type {kind}; drop the column or make numbers of it")
    return chunks.to_numpy(zero_copy_only=False)


def _csv(file: Path, key: str | None) -> Arrays:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            lines = [(reader.line_num, row) for reader in [csv.reader(stream)] for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: expected text in UTF-8 with commas ({short(error)}); write it again") from error
    if not lines:
        raise DataError(f"{file} is empty, expected rows of numbers; write it again")
    names = _header(lines[0][1], file)
    header = names or [str(i) for i in range(len(lines[0][1]))]
    rows = lines if names is None else lines[1:]
    if not rows:
        raise DataError(f"{file} has a header and no rows, expected rows of numbers; write it again")
    values = np.empty((len(rows), len(header)))
    for i, (line, row) in enumerate(rows):
        if len(row) != len(header):
            raise DataError(f"{file}, line {line}: expected {len(header)} cells, got {len(row)}; mend the row")
        for j, cell in enumerate(row):
            number = _number(cell)
            if number is None:
                got = repr(short(cell, 40)) if cell.strip() else "an empty cell"
                raise DataError(f"{file}, line {line}, column {header[j]}: expected a number, got {got}; mend the cell")
            values[i, j] = number
    if key is None:
        return {file.stem: values}
    name = _chosen(header, key, file)[0]
    return {name: values[:, header.index(name)]}


def _header(line: Sequence[str], file: Path) -> list[str] | None:
    """Return the names of columns that the first line of a csv file is, or None where it is numbers.

    Raises:
        UsageError: it may be either, or names are missing or doubled.
    """
    first = [cell.strip() for cell in line]
    texts = [cell for cell in first if _number(cell) is None]
    mixed = texts != [""] and 0 < len(texts) < len(first)
    if mixed or (len(first) > 1 and set(first) == {str(i) for i in range(len(first))}):
        raise UsageError(
            f"{file}: expected names of columns or numbers in the first line, got {few(first)}, which may be either; "
            "give the columns names of letters, or mend the row"
        )
    if not texts:
        return None
    if not first[0] and len(first) > 1:
        raise UsageError(f"{file}: the first column has no name, as an index has; write the table without its index")
    if len(set(first)) < len(first):
        raise UsageError(f"{file}: expected columns of different names, got {few(first)}; rename them")
    return first


def _number(cell: str) -> float | None:
    """Return a cell's number, or None."""
    try:
        return float(cell) if "_" not in cell else None
    except ValueError:
        return None


READERS: dict[str, Callable[[Path, str | None], Arrays]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
    ".csv": _csv,
}
"""What reads a file, by its ending."""
PICKLED = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".p", ".bin", ".ckpt")
