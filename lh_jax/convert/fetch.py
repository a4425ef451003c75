"""Downloads a published weight file from its official address, whole and checked, or says how to do without a network.

The bytes go to `FILE.part` beside the destination; a download that was cut off goes on where it ended, if the server
can. A file gets its name only when it is complete and its checksum is the published one; a file with another checksum
is kept as `FILE.wrong`, so that the next attempt starts anew.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import pathlib
import re
import urllib.error
import urllib.request

from lh_jax import progress
from lh_jax import published
from lh_jax import weight_files

CHUNK = 2**20
# A server that says nothing for so long has hung up.
TIMEOUT_SECONDS = 60


def fetch(name: str, *, shown: bool = False) -> tuple[pathlib.Path, str]:
  """Gets a published file, unless it is there already.

  Args:
    name: key of `published.FILES`.
    shown: draw a progress bar.

  Returns:
    (path of the file in `downloads/` of the folder of converted weights, its address).

  Raises:
    OSError: the file cannot be downloaded; the message says what to place where.
    ValueError: there is no address to download from, or the checksum is wrong.
  """
  file = published.FILES[name]
  if not file.addresses:
    raise ValueError(f'there is no address to download {name} from. {published.how_to_get(name)}')
  path = destination(name)
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      download(file.addresses[0], path, shown=shown)
    except (OSError, http.client.HTTPException) as error:
      raise OSError(
        f'could not download {file.addresses[0]} ({error}). Run the command again to go on, or fetch the file where '
        f'there is a network, place it at {path}, and run the command again.'
      ) from error
  check(path, file.digest)
  return path, file.addresses[0]


def destination(name: str) -> pathlib.Path:
  """Where `fetch` places a published file.

  Args:
    name: key of `published.FILES`, of a file that has an address.

  Returns:
    Path in `downloads/` of the folder of converted weights.
  """
  return weight_files.default_path(name).parent / 'downloads' / published.FILES[name].name


def download(address: str, path: pathlib.Path, *, shown: bool = False) -> None:
  """Downloads a file, going on where an earlier attempt ended.

  Args:
    address: what to get.
    path: destination; `path` with `.part` added holds what has come so far.
    shown: draw a progress bar.

  Raises:
    OSError: the server cannot be reached, refuses, or ends before the file does.
    http.client.HTTPException: the server's answer is no HTTP.
  """
  part, tag = path.with_name(path.name + '.part'), path.with_name(path.name + '.etag')
  start = part.stat().st_size if part.exists() else 0
  headers = {'Range': f'bytes={start}-'} if start else {}
  if start and tag.exists():
    # The server sends everything where the file has changed since.
    headers['If-Range'] = tag.read_text(encoding='utf-8')
  request = urllib.request.Request(address, headers=headers)
  try:
    answer = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
  except urllib.error.HTTPError as error:
    if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
      raise
    # Nothing comes after what is there: it is the whole file, or more than that, or what has changed since.
    if _range(error.headers)[1] == start and not _changed(error.headers, tag):
      tag.unlink(missing_ok=True)
      os.replace(part, path)
      return
    _anew(address, part, tag, path, shown=shown)
    return
  with answer:
    length = answer.headers.get('Content-Length')
    if answer.status == http.client.PARTIAL_CONTENT:
      first, total = _range(answer.headers)
      if first != start or (start and _changed(answer.headers, tag)):
        if not start:
          raise OSError(f'the whole file was asked for, but a part came that begins at byte {first}')
        answer.close()
        _anew(address, part, tag, path, shown=shown)
        return
    else:
      # A server without ranges sends everything again.
      start, total = 0, None
    if total is None and length:
      total = start + int(length)
    done = start
    with part.open('ab' if start else 'wb') as file, progress.Count('B', shown=shown, scaled=True) as bar:
      tag.write_text(answer.headers.get('ETag', ''), encoding='utf-8')
      if not tag.stat().st_size or answer.headers['ETag'].startswith('W/'):
        tag.unlink()  # Such a one tells nothing.
      while chunk := answer.read(CHUNK):
        file.write(chunk)
        done += len(chunk)
        bar(done, total or done)
  if total is not None and done != total:
    raise OSError(f'the connection ended after {done} of {total} bytes')
  tag.unlink(missing_ok=True)
  os.replace(part, path)


def _anew(address: str, part: pathlib.Path, tag: pathlib.Path, path: pathlib.Path, *, shown: bool) -> None:
  """Throws away what has come so far and downloads everything."""
  part.unlink()
  tag.unlink(missing_ok=True)
  download(address, path, shown=shown)


def check(path: pathlib.Path, digest: str) -> None:
  """Compares a file with the checksum that its publisher states.

  Args:
    path: the file; with another checksum it is renamed to `<name>.wrong`.
    digest: as in `published.File`; empty checks nothing.

  Raises:
    ValueError: the checksum is another.
  """
  if not digest:
    return
  kind, _, expected = digest.partition(':')
  found = checksum(path, kind)
  if not found.startswith(expected):
    raise ValueError(
      f'{path}: its {kind} is {found}, but its publisher states {expected}; it was set aside as {set_aside(path)}. '
      'Run the command again to download it anew.'
    )


def set_aside(path: pathlib.Path) -> str:
  """Renames a file that is not what it should be to `<name>.wrong`, and returns that name."""
  aside = path.with_name(path.name + '.wrong')
  os.replace(path, aside)
  return aside.name


def checksum(path: pathlib.Path, kind: str) -> str:
  """Hexadecimal checksum of a file.

  Args:
    path: the file.
    kind: 'sha256' or 'md5'.

  Returns:
    The checksum.
  """
  with path.open('rb') as file:
    return hashlib.file_digest(file, kind).hexdigest()


def _changed(headers: http.client.HTTPMessage, tag: pathlib.Path) -> bool:
  """Whether an answer tells of another file than the one whose tag was kept."""
  return tag.exists() and headers.get('ETag') not in (None, tag.read_text(encoding='utf-8'))


def _range(headers: http.client.HTTPMessage) -> tuple[int | None, int | None]:
  """(first byte, size of the whole file) from `Content-Range: bytes 5-9/10`, `bytes 5-9/*` or `bytes */10`."""
  match = re.fullmatch(r'bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)', headers.get('Content-Range', '').strip())
  first, total = match.groups() if match else (None, None)
  return (int(first) if first else None), (int(total) if total else None)
