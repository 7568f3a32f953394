#include "report/page.h"

namespace switchyard {
namespace {

constexpr std::string_view kStyle = R"css(
:root { color-scheme: light dark; --text: #1f2328; --soft: #57606a; --back: #ffffff;
  --card: #f6f8fa; --line: #d5d9de; --link: #0757b5; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e7eb; --soft: #a3abb5; --back: #16191d; --card: #1f242a; --line: #3a4048;
    --link: #7cb7ff; --bad: #ff9a8f; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--back);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; }
a { color: var(--link); }
.soft { color: var(--soft); font-size: .9rem; }
nav a { margin-right: 1rem; }
ul.reading { padding-left: 1.2rem; }
ul.reading li { margin: .3rem 0; }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem;
  overflow-wrap: normal; width: 100%; }
th, td { padding: .3rem .6rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
td[data-v] { text-align: right; }
td.state { white-space: normal; min-width: 12rem; }
.bad { color: var(--bad); }
thead th { position: sticky; top: 0; background: var(--card); }
th button { all: unset; cursor: pointer; font-weight: 600; color: var(--text); }
th button:focus-visible, a:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px; }
th[aria-sort=ascending] button::after { content: " \25B2"; }
th[aria-sort=descending] button::after { content: " \25BC"; }
figure { margin: 1.2rem 0; }
figure img { display: block; width: 100%; max-width: 54rem; height: auto; }
details { margin: .3rem 0; }
summary { cursor: pointer; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem;
  font-size: .8rem; white-space: pre-wrap; margin: .3rem 0; }
.records details { content-visibility: auto; contain-intrinsic-size: auto 1.6rem; }
details:target > summary { font-weight: 600; }
)css";

constexpr std::string_view kScript = R"js(
(() => {
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent.trim() : Number(cell.dataset.v);
  };
  const compare = (x, y) => typeof x === 'number' && typeof y === 'number' ? x - y
    : String(x).localeCompare(String(y), undefined, {numeric: true});
  for (const table of document.querySelectorAll('table.sortable')) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector('button').addEventListener('click', () => {
      const sign = head.getAttribute('aria-sort') === 'ascending' ? -1 : 1;
      for (const other of heads) other.setAttribute('aria-sort', 'none');
      head.setAttribute('aria-sort', sign > 0 ? 'ascending' : 'descending');
      const rows = [...table.tBodies[0].rows].map(row => [value(row, column), row]);
      rows.sort(([x], [y]) => x === '' || y === '' ? (x === '') - (y === '') : sign * compare(x, y));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    }));
  }
  const open = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (!target || target.tagName !== 'DETAILS') return;
    target.open = true;
    target.scrollIntoView();
  };
  addEventListener('hashchange', open);
  open();
})();
)js";

}  // namespace

std::string_view page_style() noexcept { return kStyle; }

std::string_view page_script() noexcept { return kScript; }

}  // namespace switchyard
