"""lh_jax.html_report: self-contained, bounded, the worst first, and safe against what names may hold."""

import html.parser

import numpy as np
import pytest

from lh_jax import html_report

RNG = np.random.default_rng(0)


def case(name='a', rank=1.0, group='haze', shape=(20, 30, 3)):
  images = {title: RNG.integers(0, 256, shape, dtype=np.uint8) for title in ('input', 'restored', 'clean')}
  return html_report.case(images, restored='restored', group=group, name=name, rank=rank, caption='PSNR 1 → 2')


def page(cases, **changes):
  arguments = {
    'title': 'Evaluation',
    'facts': {'data': 'three <images>'},
    'header': ['task', 'PSNR'],
    'lines': [['haze', '20.00']],
    'note': 'Means & more.',
    'count': len(cases),
  }
  return html_report.page(cases=cases, **arguments | changes)


class Tags(html.parser.HTMLParser):
  """All tags with their attributes; fails on a tag that is not closed."""

  def __init__(self, text):
    super().__init__()
    self.found, self._open = [], []
    self.feed(text)
    assert not self._open

  def handle_starttag(self, tag, attrs):
    self.found.append((tag, dict(attrs)))
    if tag not in ('meta', 'img', 'input', 'br'):
      self._open.append(tag)

  def handle_endtag(self, tag):
    assert self._open.pop() == tag


def test_the_page_holds_everything_itself():
  found = Tags(page([case('x"><script>alert(1)</script>', shape=(40, html_report.WHOLE + 8, 3))])).found
  addresses = [attrs[name] for _, attrs in found for name in ('src', 'href') if name in attrs]
  assert len(addresses) == 6 and all(address.startswith('data:image/jpeg;base64,') for address in addresses)
  assert [tag for tag, _ in found].count('script') == 1
  policies = [attrs['content'] for _, attrs in found if attrs.get('http-equiv') == 'Content-Security-Policy']
  assert len(policies) == 1 and "default-src 'none'; img-src data:" in policies[0].replace('\n', '')


def test_the_page_tells_table_facts_and_bounds():
  text = page([case()], count=7)
  for words in ('three &lt;images&gt;', 'Means &amp; more.', '<td>20.00</td>', '1 of 7 scored images', 'PSNR 1 → 2'):
    assert words in text
  assert 'full resolution' not in text, 'the whole image is at full resolution already'
  assert '&#x27;' in page([case("it's \udcff")]), 'a name that is no valid Unicode'


def test_large_images_are_shown_small_and_in_part():
  one = case(shape=(500, 2 * html_report.WHOLE, 3))
  assert set(one.part) == set(one.whole) == {'input', 'restored', 'clean'} and one.size == (500, 2 * html_report.WHOLE)
  assert 'where the restored image errs most' in page([one])
  assert not case().part


def test_worst_keeps_the_worst_of_every_group():
  worst = html_report.Worst(2)
  for name, rank, group in (('a', 3.0, 'x'), ('b', 1.0, 'x'), ('c', 9.0, 'y'), ('d', 2.0, 'x'), ('e', 0.5, 'z')):
    assert worst.wants(group, rank)
    worst.add(case(name, rank, group))
  assert not worst.wants('x', 2.5) and worst.wants('x', 1.5) and worst.wants('y', 99.0)
  assert [one.name for one in worst.cases()] == ['e', 'b', 'd', 'c']
  none = html_report.Worst(0)
  assert not none.wants('x', 0.0) and none.cases() == []


def test_the_budget_leaves_no_group_out_for_another():
  cases = [case('a1'), case('a2'), case('a3'), case('b1', group='rain')]
  assert all(one.page_bytes > 0 for one in cases)
  limit = cases[0].page_bytes + cases[3].page_bytes
  assert [one.name for one in html_report.within_budget(cases, limit)] == ['a1', 'b1']
  assert html_report.within_budget(cases, limit - 1) == cases[:1]
  assert html_report.within_budget(cases) == cases


def test_page_bytes_are_those_of_the_page():
  one = case(shape=(40, html_report.WHOLE + 8, 3))
  pictures = [attrs['src'].split(',')[1] for tag, attrs in Tags(page([one])).found if tag == 'img']
  assert one.page_bytes == sum(map(len, pictures))


@pytest.mark.parametrize('departs, told', [('', 'nowhere known'), ('it crops', 'it crops')])
def test_provenance(departs, told):
  protocol = {'name': 'uhd', 'version': 1, 'reproduces': 'a script', 'departs': departs}
  facts = html_report.provenance({'protocol': protocol, 'lh_jax': '1', 'jax': '2', 'device': 'cpu'})
  assert facts == {
    'protocol': 'uhd, version 1',
    'reproduces': 'a script',
    'departs': told,
    'made with': 'lh_jax 1, jax 2 on cpu',
  }
