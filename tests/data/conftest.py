"""Files made by hand, byte by byte, as independent witnesses of what `lh_jax.data.formats` reads and writes."""

import struct
import zlib

import numpy as np
import pytest

from lh_jax.data import datasets
from lh_jax.data import image_files

PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'


def _chunk(name, data):
  return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


def _packed(values, bits):
  """Rows of samples, packed to bytes, most significant bit first, each row after the filter type 0."""
  if bits >= 8:
    return b''.join(b'\0' + row.astype(f'>u{bits // 8}').tobytes() for row in values)
  spread = np.unpackbits(values.astype(np.uint8)[:, :, None], axis=2)[:, :, 8 - bits :].reshape(len(values), -1)
  return b''.join(b'\0' + np.packbits(row).tobytes() for row in spread)


def _png(samples, *, bits=None, colour=None, before=(), after=(), interlaced=False):
  height, width = samples.shape[:2]
  samples = samples.reshape(height, width, -1)
  bits = bits or samples.dtype.itemsize * 8
  colour = {1: 0, 2: 4, 3: 2, 4: 6}[samples.shape[2]] if colour is None else colour
  passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
  parts = [samples[y::dy, x::dx] for y, x, dy, dx in passes] if interlaced else [samples]
  rows = b''.join(_packed(part.reshape(part.shape[0], -1), bits) for part in parts if part.size)
  chunks = [
    _chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, bits, colour, 0, 0, interlaced)),
    *(_chunk(*chunk) for chunk in before),
    _chunk(b'IDAT', zlib.compress(rows)),
    *(_chunk(*chunk) for chunk in after),
    _chunk(b'IEND', b''),
  ]
  return PNG_SIGNATURE + b''.join(chunks)


@pytest.fixture(scope='session')
def png():
  """Returns the bytes of a PNG file: (samples, bits, colour, chunks before and after the pixels, interlaced)."""
  return _png


def _directory(order, at, entries, following=0):
  """One TIFF directory: {tag: (type, count, packed value)}, the values behind it."""
  head, behind = struct.pack(order + 'H', len(entries)), b''
  values_at = at + 2 + 12 * len(entries) + 4
  for tag, (kind, count, value) in sorted(entries.items()):
    if len(value) > 4:
      offset = values_at + len(behind)
      behind += value + b'\0' * (len(value) % 2)
      value = struct.pack(order + 'I', offset)
    head += struct.pack(order + 'HHI', tag, kind, count) + value.ljust(4, b'\0')
  return head + struct.pack(order + 'I', following) + behind


MAKER_NOTE = b'maker' * 20
THUMBNAIL = b'\xff\xd8' + b'thumbnail' * 11 + b'\xff\xd9'


def _exif(*, orientation=1, order='<', thumbnail=True, sides=(48, 32)):
  def short(value):
    return 3, 1, struct.pack(order + 'H', value)

  def long(value):
    return 4, 1, struct.pack(order + 'I', value)

  def text(value):
    return 2, len(value) + 1, value + b'\0'

  first = {
    0x010F: text(b'A camera'),
    0x0110: text(b'X1'),
    0x0112: short(orientation),
    0x011A: (5, 1, struct.pack(order + 'II', 300, 1)),
    0x011B: (5, 1, struct.pack(order + 'II', 300, 1)),
    0x0128: short(2),
    0x0132: text(b'2024:05:06 07:08:09'),
    0x8769: long(0),
    0x8825: long(0),
  }
  exif = {
    0x9003: text(b'2024:05:06 07:08:09'),
    0x927C: (7, len(MAKER_NOTE), MAKER_NOTE),
    0xA002: long(sides[0]),
    0xA003: long(sides[1]),
    0xA005: long(0),
  }
  gps = {1: text(b'N'), 2: (5, 3, struct.pack(order + '6I', 47, 1, 3, 1, 2, 1))}
  interoperability = {1: text(b'R98')}
  exif_at = 8 + len(_directory(order, 8, first))
  gps_at = exif_at + len(_directory(order, exif_at, exif))
  interoperability_at = gps_at + len(_directory(order, gps_at, gps))
  second_at = interoperability_at + len(_directory(order, interoperability_at, interoperability))
  second = {0x0103: short(6), 0x0201: long(0), 0x0202: long(len(THUMBNAIL))}
  picture_at = second_at + len(_directory(order, second_at, second))
  first |= {0x8769: long(exif_at), 0x8825: long(gps_at)}
  exif[0xA005] = long(interoperability_at)
  second[0x0201] = long(picture_at)
  block = (b'II*\0' if order == '<' else b'MM\0*') + struct.pack(order + 'I', 8)
  block += _directory(order, 8, first, second_at if thumbnail else 0)
  block += _directory(order, exif_at, exif) + _directory(order, gps_at, gps)
  block += _directory(order, interoperability_at, interoperability)
  return block + _directory(order, second_at, second) + THUMBNAIL if thumbnail else block


@pytest.fixture(scope='session')
def exif():
  """Returns an EXIF block with camera, dates, GPS, maker note and thumbnail: (orientation, order, thumbnail, sides)."""
  return _exif


@pytest.fixture(scope='session')
def cmyk_profile():
  """A small CMYK profile: a table with two nodes per ink, whose corners are the colours of no press in particular."""
  paper = (255, 128, 128)
  shift = np.array([[-90, -35, -45], [-105, 70, 0], [-12, -6, 85]])
  corners = []
  for corner in range(16):
    cyan, magenta, yellow, black = (corner >> bit & 1 for bit in (3, 2, 1, 0))
    colour = np.array(paper) + np.array([cyan, magenta, yellow]) @ shift
    corners += np.clip(colour * (1 - black) + np.array([40, 128, 128]) * black, 0, 255).astype(np.uint8).tolist()
  identity = struct.pack('>9i', 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
  ramp = bytes(range(256))
  white = struct.pack('>3i', 63190, 65536, 54061)
  tags = {
    b'desc': b'desc' + bytes(4) + struct.pack('>I', 5) + b'test\0' + bytes(78),
    b'cprt': b'text' + bytes(4) + b'none\0',
    b'wtpt': b'XYZ ' + bytes(4) + white,
    b'A2B0': b'mft1' + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + bytes(corners) + ramp * 3,
  }
  table, body, at = struct.pack('>I', len(tags)), b'', 128 + 4 + 12 * len(tags)
  for name, data in tags.items():
    data += bytes(-len(data) % 4)
    table += name + struct.pack('>II', at + len(body), len(data))
    body += data
  head = struct.pack('>I4sI4s4s4s', 128 + len(table) + len(body), b'lcms', 0x02400000, b'prtr', b'CMYK', b'Lab ')
  head += struct.pack('>6H', 2024, 1, 1, 0, 0, 0) + b'acsp' + bytes(28) + white
  return head.ljust(128, b'\0') + table + body


@pytest.fixture(scope='session')
def icc():
  """Returns bytes that begin as a profile of (colour space, size) does; formats carry them without a look inside."""

  def make(space=b'RGB ', size=3000):
    noise = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8).tobytes()
    return noise[:16] + space + noise[20:36] + b'acsp' + noise[40:]

  return make


def _published(root, name, *, train=4, test=2, size=(40, 50)):
  """Lays out a tiny stand-in for a published data set of pairs, in the first of its accepted layouts."""
  dataset = datasets.find(name)
  rng = np.random.default_rng(len(name))
  for split, number in (('train', train), ('test', test)):
    folder = root / getattr(dataset, split)[0]
    for half in filter(None, (dataset.clean[:1], dataset.degraded[:1])):
      for index in range(number):
        pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        image_files.write_image(folder / half[0] / f'{index:04d}.png', pixels)
  return root


@pytest.fixture(scope='session')
def published():
  """Returns a function that makes a tiny published data set: (root, name, train, test, size)."""
  return _published
