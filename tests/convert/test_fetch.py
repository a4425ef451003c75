"""Downloads from a server on this machine: resumed, checked, refused, and what a user without a network is told."""

from __future__ import annotations

import hashlib
import http.server
import threading

import pytest

from lh_jax import published
from lh_jax import weight_files
from lh_jax.convert import __main__ as command
from lh_jax.convert import fetch
from tests.convert import test_main

CONTENT = bytes(range(256)) * 40

tiny = test_main.tiny
cache = test_main.cache


class Server(http.server.ThreadingHTTPServer):
  """Serves `content` at every path; notes the ranges that were asked for."""

  content = CONTENT
  ranges = True
  cut = None  # bytes after which the connection ends
  etag = ''
  shift = 0  # bytes by which a range begins elsewhere than asked for
  careless = False  # does not look at If-Range
  silent = False  # does not say how large the whole file is
  asked: list

  def __init__(self):
    super().__init__(('127.0.0.1', 0), Handler)
    self.asked = []


class Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    server = self.server
    server.asked.append(self.headers.get('Range'))
    if self.path.endswith('absent'):
      self.send_error(404)
      return
    start = 0
    changed = not server.careless and self.headers.get('If-Range', server.etag) != server.etag
    if server.ranges and self.headers.get('Range') and not changed:
      start = int(self.headers['Range'].removeprefix('bytes=').removesuffix('-'))
      if start >= len(server.content):
        self.send_response(416)
        self.send_header('Content-Range', f'bytes */{len(server.content)}')
        self.send_header('Content-Length', '0')
        if server.etag:
          self.send_header('ETag', server.etag)
        self.end_headers()
        return
      self.send_response(206)
      start += server.shift
      total = '*' if server.silent else len(server.content)
      self.send_header('Content-Range', f'bytes {start}-{len(server.content) - 1}/{total}')
    else:
      self.send_response(200)
    if server.etag:
      self.send_header('ETag', server.etag)
    self.send_header('Content-Length', str(len(server.content) - start))
    self.end_headers()
    self.wfile.write(server.content[start : server.cut])

  def log_message(self, *unused):
    pass


@pytest.fixture(name='server')
def _server(monkeypatch):
  with Server() as server:
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    yield server
    server.shutdown()
    thread.join()


def address(server, name='x.pth'):
  return f'http://127.0.0.1:{server.server_address[1]}/{name}'


@pytest.fixture
def published_here(server, monkeypatch):
  """Publishes 'dinov2_vits14' on the server, with the given checksum."""

  def publish(digest=''):
    monkeypatch.setitem(
      published.FILES, 'dinov2_vits14', published.File('dinov2', 'Apache-2.0', (address(server),), digest=digest)
    )

  return publish


def test_download(server, tmp_path):
  fetch.download(address(server), tmp_path / 'x')
  assert (tmp_path / 'x').read_bytes() == CONTENT
  assert server.asked == [None] and [path.name for path in tmp_path.iterdir()] == ['x']


def test_half_a_file_is_completed(server, tmp_path):
  (tmp_path / 'x.part').write_bytes(CONTENT[:5000])
  fetch.download(address(server), tmp_path / 'x')
  assert (tmp_path / 'x').read_bytes() == CONTENT
  assert server.asked == ['bytes=5000-']


def test_a_server_without_ranges_starts_anew(server, tmp_path):
  server.ranges = False
  (tmp_path / 'x.part').write_bytes(b'other' * 1000)
  fetch.download(address(server), tmp_path / 'x')
  assert (tmp_path / 'x').read_bytes() == CONTENT


def test_a_part_that_is_whole_only_gets_its_name(server, tmp_path):
  (tmp_path / 'x.part').write_bytes(CONTENT)
  fetch.download(address(server), tmp_path / 'x')
  assert (tmp_path / 'x').read_bytes() == CONTENT and server.asked == [f'bytes={len(CONTENT)}-']


def test_a_part_that_is_too_long_is_thrown_away(server, tmp_path):
  (tmp_path / 'x.part').write_bytes(CONTENT + b'more')
  fetch.download(address(server), tmp_path / 'x')
  assert (tmp_path / 'x').read_bytes() == CONTENT and server.asked[1:] == [None]


def test_a_connection_that_ends_early_keeps_what_came(server, tmp_path):
  server.cut = 3000
  with pytest.raises(OSError, match=f'the connection ended after 3000 of {len(CONTENT)} bytes'):
    fetch.download(address(server), tmp_path / 'x')
  assert (tmp_path / 'x.part').read_bytes() == CONTENT[:3000] and not (tmp_path / 'x').exists()
  server.cut = None
  fetch.download(address(server), tmp_path / 'x')
  assert (tmp_path / 'x').read_bytes() == CONTENT


@pytest.mark.parametrize('etag', ['"a"', 'W/"a"', ''])
def test_a_file_that_has_changed_is_not_completed(server, tmp_path, etag):
  server.cut, server.etag = 3000, etag
  with pytest.raises(OSError, match='the connection ended'):
    fetch.download(address(server), tmp_path / 'x')
  server.cut, server.etag, server.content = None, '"b"', CONTENT[::-1]
  fetch.download(address(server), tmp_path / 'x')
  # Without a strong tag nobody can tell; the checksum does.
  expected = CONTENT[::-1] if etag == '"a"' else CONTENT[:3000] + CONTENT[::-1][3000:]
  assert (tmp_path / 'x').read_bytes() == expected and [path.name for path in tmp_path.iterdir()] == ['x']


@pytest.mark.parametrize('shift', [-1000, 1000])
def test_another_range_than_asked_for_is_not_appended(server, tmp_path, shift):
  server.shift = shift
  (tmp_path / 'x.part').write_bytes(CONTENT[:5000])
  fetch.download(address(server), tmp_path / 'x')
  assert (tmp_path / 'x').read_bytes() == CONTENT and server.asked == ['bytes=5000-', None]


def test_a_range_that_nobody_asked_for(server, tmp_path, monkeypatch):
  monkeypatch.setattr(Handler, 'send_response', partial_content)
  with pytest.raises(OSError, match='the whole file was asked for, but a part came that begins at byte None'):
    fetch.download(address(server), tmp_path / 'x')
  assert not list(tmp_path.iterdir())


def partial_content(handler, *_):
  http.server.BaseHTTPRequestHandler.send_response(handler, 206)


@pytest.mark.parametrize('size', [3000, len(CONTENT)])
def test_a_server_that_does_not_look_at_the_tag(server, tmp_path, size):
  """A part of the old file, or all of it, is neither completed nor taken for the new one of the same size."""
  server.careless, server.etag = True, '"new"'
  (tmp_path / 'x.part').write_bytes(CONTENT[::-1][:size])
  (tmp_path / 'x.etag').write_text('"old"')
  fetch.download(address(server), tmp_path / 'x')
  assert (tmp_path / 'x').read_bytes() == CONTENT and [path.name for path in tmp_path.iterdir()] == ['x']


def test_a_part_that_is_whole_leaves_no_tag(server, tmp_path):
  server.etag = '"a"'
  (tmp_path / 'x.part').write_bytes(CONTENT)
  (tmp_path / 'x.etag').write_text('"a"')
  fetch.download(address(server), tmp_path / 'x')
  assert [path.name for path in tmp_path.iterdir()] == ['x'] and len(server.asked) == 1


def test_a_range_of_a_file_of_unknown_size_that_ends_early(server, tmp_path):
  server.silent, server.cut = True, 8000
  (tmp_path / 'x.part').write_bytes(CONTENT[:5000])
  with pytest.raises(OSError, match=f'the connection ended after 8000 of {len(CONTENT)} bytes'):
    fetch.download(address(server), tmp_path / 'x')
  assert (tmp_path / 'x.part').read_bytes() == CONTENT[:8000] and not (tmp_path / 'x').exists()


def test_what_cannot_be_converted_is_downloaded_anew(server, published_here, tiny, cache, capsys):
  published_here()
  server.content = b'<html>Please log in</html>'
  assert command.main(['dinov2_vits14', '--fetch']) == 1
  assert 'It was set aside as x.pth.wrong' in capsys.readouterr().err
  server.content = tiny.read_bytes()
  assert command.main(['dinov2_vits14', '--fetch']) == 0


def test_a_file_of_the_official_name_is_checked_without_fetching_too(published_here, tiny, cache, capsys):
  published_here(digest='sha256:0123')
  source = tiny.rename(tiny.with_name('x.pth'))
  assert command.main(['dinov2_vits14', str(source)]) == 1
  assert 'but its publisher states 0123: fetch it again' in capsys.readouterr().err and source.exists()


def test_from_the_address_to_converted_weights(server, published_here, tiny, cache, capsys):
  server.content = tiny.read_bytes()
  published_here()
  digest = hashlib.sha256(server.content).hexdigest()
  assert command.main(['dinov2_vits14', '--fetch']) == 0
  out = capsys.readouterr().out
  assert f'sha256 {digest}, recorded in OUT' in out and f'wrote {cache / "dinov2_vits14.safetensors"}' in out
  _, metadata = weight_files.load(cache / 'dinov2_vits14.safetensors')
  assert metadata['source'] == address(server) and metadata['source_sha256'] == digest
  # Neither is done twice.
  assert command.main(['dinov2_vits14', '--fetch']) == 0
  assert 'nothing to do' in capsys.readouterr().out and len(server.asked) == 1
  other = cache / 'other.safetensors'
  assert command.main(['dinov2_vits14', '--fetch', str(other)]) == 0
  assert other.is_file() and len(server.asked) == 1


def test_what_is_in_the_way_is_found_before_the_download(server, published_here, tiny, cache, capsys):
  published_here()
  server.content = tiny.read_bytes()
  out = cache / 'dinov2_vits14.safetensors'
  cache.mkdir()
  out.write_bytes(b'precious')
  assert command.main(['dinov2_vits14', '--fetch']) == 1
  assert f'{out}: exists and was not made from {address(server)}' in capsys.readouterr().err
  assert not server.asked and out.read_bytes() == b'precious'
  assert command.main(['dinov2_vits14', '--fetch', '--overwrite']) == 0 and len(server.asked) == 1
  # Whoever has thrown the published file away need not get it again.
  (cache / 'downloads' / 'x.pth').unlink()
  capsys.readouterr()
  assert command.main(['dinov2_vits14', '--fetch']) == 0
  assert f'{out} is already converted from there; nothing to do' in capsys.readouterr().out
  assert len(server.asked) == 1


def test_an_interrupted_download_goes_on(server, published_here, tiny, cache, monkeypatch, capsys):
  published_here()
  server.content = tiny.read_bytes()
  monkeypatch.setattr(fetch, 'CHUNK', 1000)

  def interrupt(bar, done, total):
    if done >= 3000:
      raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(fetch.progress.Count, '__call__', interrupt)
    assert command.main(['dinov2_vits14', '--fetch']) == 130
  assert 'interrupted; what has been downloaded is kept: run the command again' in capsys.readouterr().err
  assert (cache / 'downloads' / 'x.pth.part').read_bytes() == server.content[:3000]
  assert command.main(['dinov2_vits14', '--fetch']) == 0 and server.asked == [None, 'bytes=3000-']


@pytest.mark.parametrize('kind', ['sha256', 'md5'])
def test_published_checksum(kind, server, published_here, cache):
  digest = hashlib.new(kind, CONTENT).hexdigest()
  published_here(f'{kind}:{digest[:8]}')
  path, _ = fetch.fetch('dinov2_vits14')
  assert path == cache / 'downloads' / 'x.pth' and path.read_bytes() == CONTENT


def test_wrong_checksum_is_set_aside(server, published_here, cache, capsys):
  published_here('sha256:00000000')
  assert command.main(['dinov2_vits14', '--fetch']) == 1
  assert 'but its publisher states 00000000; it was set aside as x.pth.wrong' in capsys.readouterr().err
  assert [path.name for path in (cache / 'downloads').iterdir()] == ['x.pth.wrong']
  with pytest.raises(ValueError, match='Run the command again to download it anew'):
    fetch.fetch('dinov2_vits14')
  assert len(server.asked) == 2


def test_without_a_network(server, published_here, cache, monkeypatch, capsys):
  refused = published.File('dinov2', 'Apache-2.0', (address(server, 'absent'),))
  monkeypatch.setitem(published.FILES, 'dinov2_vits14', refused)
  assert command.main(['dinov2_vits14', '--fetch']) == 1
  message = capsys.readouterr().err
  assert f'could not download {refused.addresses[0]} (HTTP Error 404' in message
  assert f'place it at {cache / "downloads" / "absent"}, and run the command again' in message
  # Which is true.
  published_here()
  (cache / 'downloads' / 'x.pth').write_bytes(b'placed')
  assert fetch.fetch('dinov2_vits14')[0].read_bytes() == b'placed' and len(server.asked) == 1


def test_files_that_no_program_can_download(monkeypatch):
  monkeypatch.setitem(
    published.FILES, 'dinov2_vits14', published.File('dinov2', 'MIT', page='https://example.org/weights')
  )
  with pytest.raises(
    ValueError,
    match='there is no address to download dinov2_vits14 from. Download the file from https://example.org/weights and '
    'run `python -m lh_jax.convert dinov2_vits14 FILE`',
  ):
    fetch.fetch('dinov2_vits14')


@pytest.mark.parametrize(
  'arguments',
  [['vgg16', '--fetch'], ['dinov2_vits14', 'x.pth', 'out', '--fetch'], ['dinov2_vits14', 'x', '', '--fetch']],
)
def test_fetch_with_a_source(arguments, capsys):
  with pytest.raises(SystemExit):
    command.main(arguments)
  assert '--fetch takes the place of SOURCE' in capsys.readouterr().err
