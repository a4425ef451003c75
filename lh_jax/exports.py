"""Exports: what training hands to inference, a folder with params.safetensors and config.json, loadable without any
training code.

The configuration (the sections that fix the architecture, `networks.SECTIONS`; the last finished stage; the version
that wrote it) stands in the metadata of the parameters' file, which is what is read; config.json is its copy for
people.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any, Mapping

import jax

import lh_jax
from lh_jax import networks as networks_lib
from lh_jax import storage
from lh_jax import weight_files

FORMAT = 1
BUNDLED = pathlib.Path(__file__).parent / 'weights'  # an export, with its model card


@dataclasses.dataclass(frozen=True)
class Export:
  """A model on the host.

  Attributes:
    sections: the config sections of its architecture, for `networks.build`.
    params: its parts, numpy arrays; stage 1 alone lacks the restorer and LoRA parts.
    stage: 'stage1' or 'stage2', the last stage that has finished.
  """

  sections: dict[str, dict[str, Any]]
  params: dict[str, Any]
  stage: str


def save(folder: pathlib.Path, export: Export) -> None:
  """Writes an export. The parameters' file, which also holds the configuration, appears whole or not at all."""
  config = {'format': FORMAT, 'lh_jax': lh_jax.__version__, 'stage': export.stage} | export.sections
  text = json.dumps(config, indent=2) + '\n'
  with storage.staged(folder) as local:
    weight_files.save(local / 'params.safetensors', export.params, {'config': text})
    (local / 'config.json').write_text(text, encoding='utf-8')


def find(path: pathlib.Path) -> pathlib.Path:
  """Returns the export folder in `path`: a work directory, or an export itself.

  Raises:
    FileNotFoundError: there is none.
  """
  for folder in (path / 'export', path):
    if (folder / 'params.safetensors').is_file():
      return folder
  raise FileNotFoundError(
    f'{path} holds no export: name a work directory of a finished training run, or its export folder with '
    'params.safetensors.'
  )


def load(path: pathlib.Path) -> Export:
  """Reads an export and checks every tensor against its architecture.

  Args:
    path: a work directory, or an export itself.

  Raises:
    FileNotFoundError: there is none.
    ValueError: the file is damaged, or of another format or model.
  """
  file = find(path) / 'params.safetensors'
  with storage.fetched(file) as local:
    return _load(local, file)


def _load(local: pathlib.Path, file: Any) -> Export:
  """Reads `local`, which has the bytes of `file`."""
  _, metadata = weight_files.load(local)
  try:
    config = json.loads(metadata['config'])
    found_format, stage = config['format'], config['stage']
    sections = {name: config[name] for name in networks_lib.SECTIONS}
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f'{file} is no export: its metadata holds no export configuration ({error!r}).') from error
  if found_format != FORMAT:
    raise ValueError(
      f'{file} has export format {found_format!r}, this version reads {FORMAT}: export it again, or use the version '
      'that wrote it.'
    )
  shapes = abstract_params(sections, stage)
  params, _ = weight_files.load(local, shapes)
  # A file holds arrays only: a part without any (the statistics of a restorer without batch norm) comes back here.
  params = {name: params.get(name, {}) for name in shapes}
  return Export(sections=sections, params=params, stage=stage)


def stage_of(path: pathlib.Path) -> str | None:
  """Returns the last stage that the export in `path` has finished, or None where there is no export."""
  try:
    return load(path).stage
  except FileNotFoundError:
    return None


def abstract_params(sections: Mapping[str, Mapping[str, Any]], stage: str) -> dict[str, Any]:
  """Returns the shapes of the parameters of an export of this architecture after `stage`."""
  shapes = jax.eval_shape(networks_lib.build(sections).init, jax.random.key(0))
  parts = networks_lib.STAGE1_PARTS if stage == 'stage1' else networks_lib.PARTS
  return {name: shapes[name] for name in parts}
