"""How the report looks; lines are solid or dashed, so that color is never all that tells."""

CSS = """
:root { --ink:#1c2027; --soft:#5d6470; --line:#e4e1d8; --paper:#fbfaf6; --card:#fff;
        --said:#1f4fa8; --true:#a4420b; --band:#d9d5c8; }
* { box-sizing:border-box }
body { margin:0; background:var(--paper); color:var(--ink);
       font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif }
main { max-width:1080px; margin:0 auto; padding:3rem 1.25rem 5rem }
h1 { font-size:2.1rem; line-height:1.15; letter-spacing:-.02em; margin:0 0 .4rem }
h2 { font-size:1.4rem; letter-spacing:-.01em; margin:3.2rem 0 .3rem }
h3 { font-size:1rem; margin:1.8rem 0 .6rem; color:var(--soft); font-weight:600 }
p { margin:.3rem 0; max-width:70ch } .soft { color:var(--soft) } code { font-size:.9em }
nav a { margin-right:1rem } a { color:var(--said) }
dl.facts { display:grid; grid-template-columns:max-content 1fr; gap:.15rem 1.2rem;
           margin:1.2rem 0; font-size:.9rem } dl.facts dt { color:var(--soft) }
dl.facts dd { margin:0; overflow-wrap:anywhere }
.scroll { overflow-x:auto }
table { border-collapse:collapse; width:100%; margin:.8rem 0; background:var(--card);
        border:1px solid var(--line); border-radius:10px; font-variant-numeric:tabular-nums }
th,td { text-align:left; padding:.5rem .8rem; border-bottom:1px solid var(--line);
        vertical-align:middle } tr:last-child td { border-bottom:0 }
th { font-size:.8rem; color:var(--soft); font-weight:600 } td.n,th.n { text-align:right }
td.value { font-weight:650; font-size:1.05rem; white-space:nowrap }
td.plot { min-width:250px; white-space:nowrap }
td.plot small { color:var(--soft); margin-left:.3rem; vertical-align:8px }
td.span { white-space:nowrap } .yes,.no { white-space:nowrap; font-weight:600 }
.no { color:var(--soft); font-weight:400 }
.grid { display:grid; grid-template-columns:repeat(auto-fill,minmax(160px,1fr)); gap:1rem }
figure { margin:0; background:var(--card); border:1px solid var(--line); border-radius:10px;
         overflow:hidden; display:flex; flex-direction:column }
.frame { position:relative; background:#eee; line-height:0 }
.frame img { width:100%; display:block } .frame .pixels { image-rendering:pixelated }
.frame svg { position:absolute; inset:0; width:100%; height:100% }
figcaption { padding:.65rem .75rem .75rem; font-size:.86rem; line-height:1.4 }
figcaption p { margin:.15rem 0 } .label { color:var(--soft); font-size:.75rem; margin-right:.35rem }
.score { margin-top:.45rem; font-variant-numeric:tabular-nums; color:var(--soft);
         font-size:.8rem }
.key { font-size:.85rem; color:var(--soft); display:flex; gap:1.4rem; align-items:center;
       flex-wrap:wrap } .key svg { vertical-align:middle }
details { margin:.8rem 0 } summary { cursor:pointer; color:var(--said) }
footer { margin-top:4rem; font-size:.85rem; color:var(--soft) }
@media (max-width:640px) {
  td.plot { min-width:0 } table.numbers tr { display:grid; grid-template-columns:1fr auto auto;
    padding:.5rem .8rem; border-bottom:1px solid var(--line) }
  table.numbers th { display:none } table.numbers td { border:0; padding:.1rem .4rem }
  table.numbers td:first-child { grid-column:1/-1 } table.numbers td.plot { grid-column:1/-1 }
  table.numbers tr:first-child { display:none } td.plot small { display:none }
  td.plot svg { width:100%; height:26px } td.chance::before { content:"chance "; color:var(--soft) }
  td.count::before { content:"n = "; color:var(--soft) } }
@media print { body { background:#fff } figure,table { break-inside:avoid } }
"""

HATCH = (
    '<svg width="0" height="0" aria-hidden="true" style="position:absolute"><defs>'
    '<pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><rect width="5" height="5" fill="#efece3"/>'
    '<line x1="0" y1="0" x2="0" y2="5" stroke="#b3ad9c" stroke-width="2"/></pattern></defs></svg>'
)
