import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax.ops import resize

# Responses of torch 2.13.0 `interpolate(align_corners=False)` in float64 to the unit vectors, one row per output.
CUBIC_5_TO_3 = [
  [0.685185185, 0.37037037, -0.055555556, 0, 0],
  [0, 0, 1, 0, 0],
  [0, 0, -0.055555556, 0.37037037, 0.685185185],
]
CUBIC_ANTIALIAS_5_TO_3 = [
  [0.584615385, 0.446153846, 0, -0.030769231, 0],
  [-0.037209302, 0.246511628, 0.581395349, 0.246511628, -0.037209302],
  [0, -0.030769231, 0, 0.446153846, 0.584615385],
]
LINEAR_ANTIALIAS_5_TO_3 = [
  [0.571428571, 0.428571429, 0, 0, 0],
  [0, 0.222222222, 0.555555556, 0.222222222, 0],
  [0, 0, 0, 0.428571429, 0.571428571],
]
# scale_factor=6.1 / 4: the form in which DINOv2 resizes its position embedding.
CUBIC_4_TO_6_SCALED = [
  [1.088479735, -0.088479735, 0, 0],
  [0.51844042, 0.572138334, -0.090578754, 0],
  [-0.077412179, 0.959694176, 0.130251403, -0.0125334],
  [-0.025039954, 0.205919631, 0.916275344, -0.097155021],
  [0, -0.101975083, 0.657243475, 0.444731607],
  [0, 0, -0.063793748, 1.063793748],
]
LINEAR_4_TO_6 = [
  [1, 0, 0, 0],
  [1 / 2, 1 / 2, 0, 0],
  [0, 5 / 6, 1 / 6, 0],
  [0, 1 / 6, 5 / 6, 0],
  [0, 0, 1 / 2, 1 / 2],
  [0, 0, 0, 1],
]


@pytest.mark.parametrize(
  'expected, options',
  [
    (CUBIC_5_TO_3, {'kind': 'cubic'}),
    (CUBIC_ANTIALIAS_5_TO_3, {'kind': 'cubic', 'antialias': True}),
    (LINEAR_ANTIALIAS_5_TO_3, {'kind': 'linear', 'antialias': True}),
    (CUBIC_4_TO_6_SCALED, {'kind': 'cubic', 'scale': 6.1 / 4}),
    (LINEAR_4_TO_6, {'kind': 'linear'}),
  ],
)
def test_interpolation_matrix_is_that_of_torch(expected, options):
  expected = np.array(expected)
  matrix = resize.interpolation_matrix(expected.shape[1], expected.shape[0], **options)
  assert matrix.dtype == np.float64
  np.testing.assert_allclose(matrix, expected, atol=1e-9)


@pytest.mark.parametrize('kind', resize.KINDS)
@pytest.mark.parametrize('antialias', [False, True])
def test_interpolation_matrix_properties(kind, antialias):
  same = resize.interpolation_matrix(37, 37, kind=kind, antialias=antialias)
  np.testing.assert_allclose(same, np.eye(37), atol=1e-12)
  for n_in, n_out in ((1, 5), (37, 16), (7, 30), (64, 3)):
    matrix = resize.interpolation_matrix(n_in, n_out, kind=kind, antialias=antialias)
    assert matrix.shape == (n_out, n_in)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)


@pytest.mark.parametrize('size', [(5, 14), (16, 3), (16, 14), (8, 7), (11, 1), (40, 23)])
def test_resize_bilinear_matches_jax_without_antialias(size):
  x = jax.random.normal(jax.random.key(0), (2, 8, 7, 3))
  y = resize.resize_bilinear(x, size)
  expected = jax.image.resize(x, (2, *size, 3), 'linear', antialias=False)
  np.testing.assert_allclose(y, expected, atol=5e-6)
  np.testing.assert_allclose(jax.jit(resize.resize_bilinear, static_argnums=1)(x, size), y, atol=1e-6)


def test_upsampling_is_the_matrix_product_and_local():
  x = jax.random.normal(jax.random.key(0), (2, 5, 6, 3))
  matrices = [resize.interpolation_matrix(n, 2 * n, kind='linear') for n in (5, 6)]
  y = resize.upsample_bilinear_2x(x)
  np.testing.assert_allclose(y, np.einsum('ph,qw,bhwc->bpqc', *matrices, x), atol=1e-6)
  np.testing.assert_array_equal(resize.upsample_bilinear_2x(x[:, 1:5])[:, 2:-2], y[:, 4:8])
  assert resize.upsample_bilinear_2x(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_resize_bilinear_keeps_the_dtype():
  for size in ((4, 5), (8, 10), (3, 3)):
    assert resize.resize_bilinear(jnp.ones((1, 4, 5, 2), jnp.bfloat16), size).dtype == jnp.bfloat16


def test_resize_errors():
  with pytest.raises(ValueError, match='got the size 0x4; height and width must be at least 1'):
    resize.resize_bilinear(jnp.zeros((1, 4, 4, 1)), (0, 4))
  with pytest.raises(ValueError, match="unknown interpolation kind 'lanczos'; known kinds: linear, cubic"):
    resize.interpolation_matrix(3, 4, kind='lanczos')
  with pytest.raises(ValueError, match='got n_in=3, n_out=0; both must be at least 1'):
    resize.interpolation_matrix(3, 0, kind='linear')
  with pytest.raises(ValueError, match='got scale=-1; it must be positive'):
    resize.interpolation_matrix(3, 4, kind='linear', scale=-1)
