#include "evaluate/report_style.h"

namespace retort::evaluate {

// Teacher: ink. Before: grey. Text only: blue. Distilled: copper. Each role also has a shape of its own. Both
// palettes hold 4.5 : 1 for text and 3 : 1 for marks against their ground.
const std::string_view report_style = R"css(
:root{color-scheme:light dark;--ground:#fbfaf8;--panel:#fff;--ink:#1d1b19;--soft:#635d57;--line:#e4dfd9;--grid:#ece8e3;
--teacher:#37322d;--before:#8b847c;--text-only:#2f6db0;--distilled:#b4530f;--other:#6b5ca5;--good:#2d7a46;--bad:#b3362c;
--tint:#b4530f0f;--serif:"Iowan Old Style","Palatino Linotype",Palatino,Charter,"Source Serif 4",Georgia,"Liberation Serif",serif;
--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Liberation Sans",Arial,sans-serif;
--mono:ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace}
@media(prefers-color-scheme:dark){:root{--ground:#161412;--panel:#1e1b19;--ink:#ece7e1;--soft:#a9a199;--line:#38332f;
--grid:#2b2724;--teacher:#d8d1c9;--before:#8f877f;--text-only:#74abe6;--distilled:#ec8a45;--other:#b0a2e6;--good:#6cc48a;
--bad:#f0857a;--tint:#ec8a4514}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 var(--sans)}
main,.top,footer{max-width:1080px;margin:0 auto;padding:0 28px}
.top{padding-top:52px;padding-bottom:28px}
.over{margin:0 0 10px;font-size:13px;letter-spacing:.08em;text-transform:uppercase;color:var(--distilled);font-weight:600}
h1{margin:0;font:600 38px/1.15 var(--serif);letter-spacing:-.01em;text-wrap:balance}
.meta{margin:12px 0 0;color:var(--soft);font-size:14px}
.meta span:not(:last-child)::after{content:"·";margin:0 .55em}
section{margin:0 0 52px}
h2{margin:0 0 6px;font:600 23px/1.3 var(--serif)}
h3{margin:0;font-size:15px;font-weight:600;line-height:1.35}
.lead+.plots,h2+.plots{margin-top:16px}
.lead{margin:0 0 20px;color:var(--soft);max-width:70ch}
.verdict{background:var(--panel);border:1px solid var(--line);border-top:3px solid var(--distilled);border-radius:4px;padding:26px 30px 12px}
.verdict .summary{margin:0 0 18px;font:400 21px/1.45 var(--serif);max-width:62ch;text-wrap:pretty}
.findings{list-style:none;margin:0;padding:0}
.findings li{display:grid;grid-template-columns:26px 1fr;padding:12px 0;border-top:1px solid var(--line)}
.findings .sign{font-weight:700;line-height:1.5}
.supported .sign{color:var(--good)}.not_supported .sign{color:var(--bad)}.information .sign{color:var(--soft)}
.findings strong{font-weight:600}
.detail{display:block;color:var(--soft);font-size:14px;font-variant-numeric:tabular-nums}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);font-size:14px;padding:0 0 10px}
th,td{text-align:right;padding:13px 12px;border-bottom:1px solid var(--line);vertical-align:top}
th:first-child,td:first-child{text-align:left;padding-left:0}
th:last-child,td:last-child{padding-right:0}
thead th{font-size:13px;font-weight:600;line-height:1.3;border-bottom:1px solid var(--ink);vertical-align:bottom}
thead small{display:block;font-weight:400;color:var(--soft)}
tbody th{font-weight:600;line-height:1.3;min-width:170px}
tbody th small{display:block;font-weight:400;color:var(--soft);font-size:13px;margin-top:3px;padding-left:22px}
td .number{display:block;white-space:nowrap}
td .interval{display:block;color:var(--soft);font-size:12.5px;white-space:nowrap}
tr.role-distilled{background:var(--tint)}tr.role-distilled .number{font-weight:650}
tr.role-distilled th:first-child{box-shadow:-10px 0 0 var(--tint)}
tr.role-distilled td:last-child{box-shadow:10px 0 0 var(--tint)}
.key{width:14px;height:14px;margin-right:8px;vertical-align:-2px;display:inline-block;flex:none}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:18px}
.plots.three{grid-template-columns:repeat(auto-fit,minmax(min(100%,310px),1fr))}
.plots.small{grid-template-columns:repeat(auto-fit,minmax(min(100%,215px),1fr))}
figure{margin:0;padding:18px 20px 14px;background:var(--panel);border:1px solid var(--line);border-radius:4px;min-width:0;display:flex;flex-direction:column}
figcaption{margin:0 0 12px}
figcaption small{display:block;color:var(--soft);font-size:13px;line-height:1.4;margin-top:2px}
svg{display:block;width:100%;height:auto;overflow:visible}
figure>svg{max-width:520px;margin-top:auto}
.plots.three figure>svg{max-width:400px}.plots.small figure>svg{max-width:280px}
svg text{font-family:var(--sans);fill:var(--ink);font-variant-numeric:tabular-nums}
svg .tick{font-size:11.5px;fill:var(--soft)}svg .label{font-size:13px}svg .value{font-size:13px;font-weight:600}
.grid{stroke:var(--grid);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1;opacity:.55}
.diagonal{stroke:var(--soft);stroke-width:1;stroke-dasharray:3 3}
svg .role-teacher,.key.role-teacher{--role:var(--teacher)}svg .role-before,.key.role-before{--role:var(--before)}
svg .role-text_only,.key.role-text_only{--role:var(--text-only)}svg .role-distilled,.key.role-distilled{--role:var(--distilled)}
svg .role-other,.key.role-other{--role:var(--other)}
.mark{fill:var(--role);stroke:var(--panel);stroke-width:1.4}.mark.hollow{fill:var(--panel);stroke:var(--role);stroke-width:2}
.interval[class*=role]{stroke:var(--role);stroke-width:2.4;stroke-linecap:butt}
.cap{stroke:var(--role);stroke-width:1.6}.dashed{stroke-dasharray:3 3}
.arrow{fill:none;stroke:var(--role);stroke-width:2}
.curve{fill:none;stroke:var(--role);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.curve.thin{stroke-width:1.4;opacity:.7}.curve.raw{stroke-width:1;opacity:.28}
.bar{fill:var(--role)}.bar-ground{fill:var(--grid)}.bar-interval{stroke:var(--ink);stroke-width:1.6}.strip{fill:var(--role);opacity:.28}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:0 0 16px;padding:0;list-style:none;font-size:14px;color:var(--soft)}
.legend li{display:flex;align-items:center}
.sample{border-top:1px solid var(--line);padding:20px 0 24px}
.sample:last-child{border-bottom:1px solid var(--line)}
.prompt{margin:0 0 14px;font:400 17px/1.5 var(--serif);white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate;max-width:72ch}
.answers{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,225px),1fr));gap:14px}
.answer{background:var(--panel);border:1px solid var(--line);border-radius:4px;padding:12px 14px;min-width:0}
.answer.role-distilled{border-top:2px solid var(--distilled)}
.answer h3{font-size:13px;color:var(--soft);display:flex;align-items:center;margin:0 0 7px}
.answer h3 b{margin-left:auto;padding-left:8px;font-weight:600;white-space:nowrap}
.pass{color:var(--good)}.fail{color:var(--bad)}
.answer p{margin:0;font-size:14.5px;line-height:1.5;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate;max-height:22em;overflow:auto}
.answer .empty{color:var(--soft);font-style:italic}
.facts{display:grid;grid-template-columns:minmax(150px,max-content) 1fr;gap:7px 26px;margin:0 0 18px;font-size:15px}
.facts dt{color:var(--soft)}.facts dd{margin:0;overflow-wrap:anywhere}
.notes{padding-left:1.1em;margin:0 0 18px;max-width:75ch}.notes li{margin:0 0 6px}
details{border-top:1px solid var(--line)}details:last-of-type{border-bottom:1px solid var(--line)}
summary{cursor:pointer;padding:13px 0;font-weight:600;font-size:15px}
pre{margin:0 0 16px;padding:16px 18px;background:var(--panel);border:1px solid var(--line);border-radius:4px;overflow:auto;font:13px/1.5 var(--mono);tab-size:4}
.files{list-style:none;margin:0 0 12px;padding:0;font-size:14px}
.files li{padding:8px 0;border-top:1px solid var(--line)}.files li:first-child{border-top:0}
.files span{color:var(--soft)}.files code{display:block;font:12.5px/1.5 var(--mono);overflow-wrap:anywhere;color:var(--soft)}
.files .path{color:var(--ink);overflow-wrap:anywhere}
a:focus-visible,summary:focus-visible,[tabindex]:focus-visible{outline:2px solid var(--distilled);outline-offset:2px}
footer{padding-bottom:44px;color:var(--soft);font-size:13px}
footer code{font:12.5px/1.5 var(--mono);overflow-wrap:anywhere}
@media(max-width:760px){
main,.top,footer{padding-left:18px;padding-right:18px}
.top{padding-top:30px;padding-bottom:20px}h1{font-size:28px}section{margin-bottom:40px}
.verdict{padding:20px 18px 8px}.verdict .summary{font-size:18.5px}
.comparison,.comparison caption,.comparison tbody,.comparison tr,.comparison th,.comparison td{display:block}
.comparison thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.comparison tbody tr{border:1px solid var(--line);border-radius:4px;background:var(--panel);padding:14px 16px 6px;margin:0 0 12px}
.comparison tbody tr.role-distilled{border-top:2px solid var(--distilled)}
.comparison tbody th,.comparison td,tr.role-distilled th:first-child,tr.role-distilled td:last-child{box-shadow:none}
.comparison tbody th{border:0;padding:0 0 8px}
.comparison td{display:flex;justify-content:space-between;align-items:baseline;gap:12px;padding:7px 0;border:0;border-top:1px solid var(--line)}
.comparison td::before{content:attr(data-label);color:var(--soft);font-size:14px;text-align:left}
.comparison td.none{display:none}
.comparison td>div{text-align:right}
figure{padding:15px 14px 12px}
.facts{grid-template-columns:1fr;gap:0}.facts dt{margin-top:9px;font-size:13px}
}
@media print{body{background:#fff}section,figure,.sample{break-inside:avoid}details>*{display:block}.answer p{max-height:none}}
)css";

}  // namespace retort::evaluate
