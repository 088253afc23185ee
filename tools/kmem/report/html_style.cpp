// The style sheet of the HTML report.
//
// Nine category colours that stay apart for the common kinds of colour blindness and have at least 3:1 contrast
// against their background in both themes; red is kept for failures alone. Text has at least 4.5:1.

#include "html_parts.hpp"

namespace kmem::tool::report {

namespace {

constexpr std::string_view dark_colours = R"css(
  --bg:#0f1216; --surface:#161a20; --raised:#1d222a; --ink:#e7eaee; --muted:#9aa4b2; --line:#2b323c; --grid:#262c35;
  --c1:#6c9cff; --c2:#3fc0ae; --c3:#e7aa42; --c4:#ad92f0; --c5:#e888b0; --c6:#a9bd57; --c7:#93a1b5; --c8:#63c3ee; --c9:#cf9b73;
  --bad:#ff7468; --bad-soft:#3a1d1d; --good:#56c98a; --good-soft:#15301f; --accent:#7ea8ff; --shadow:0 1px 2px #0006;
)css";

constexpr std::string_view light_colours = R"css(
  --bg:#f6f7f8; --surface:#ffffff; --raised:#f1f3f5; --ink:#191d23; --muted:#596372; --line:#e0e4e9; --grid:#e9ecf0;
  --c1:#3567cf; --c2:#168a7d; --c3:#c07c0a; --c4:#7a53c4; --c5:#bf4a7b; --c6:#74861f; --c7:#64728a; --c8:#2b90c4; --c9:#96653f;
  --bad:#c4302b; --bad-soft:#fdecea; --good:#1c7c47; --good-soft:#e7f5ec; --accent:#2a5cc5; --shadow:0 1px 2px #18202a12;
)css";

constexpr std::string_view layout = R"css(
*{box-sizing:border-box}
html{scroll-behavior:smooth;scroll-padding-top:64px;-webkit-text-size-adjust:100%}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0;background:var(--bg);color:var(--ink);
  font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans","DejaVu Sans",sans-serif;
  font-variant-numeric:tabular-nums}
code,pre,.mono{font-family:ui-monospace,"SF Mono","Cascadia Mono","JetBrains Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;
  font-size:.87em}
a{color:var(--accent);text-decoration:none}
a:hover{text-decoration:underline}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px;border-radius:4px}
.bar{position:sticky;top:0;z-index:5;background:var(--surface);border-bottom:1px solid var(--line)}
.bar .in{max-width:1200px;margin:0 auto;padding:0 24px;height:52px;display:flex;align-items:center;gap:20px}
.brand{font-weight:700;letter-spacing:-.01em;color:var(--ink);white-space:nowrap}
.brand b{color:var(--accent);font-weight:700}
.bar nav{display:flex;gap:18px;overflow-x:auto;flex:1;scrollbar-width:none}
.bar nav::-webkit-scrollbar{display:none}
.bar nav a{color:var(--muted);font-size:14px;white-space:nowrap}
.bar nav a:hover{color:var(--ink)}
button{font:inherit;font-size:13px;color:var(--muted);background:none;border:1px solid var(--line);border-radius:7px;
  padding:4px 11px;cursor:pointer}
button:hover{color:var(--ink);border-color:var(--muted)}
main{max-width:1200px;margin:0 auto;padding:36px 24px 64px}
header h1{font-size:30px;line-height:1.2;letter-spacing:-.02em;margin:0 0 14px;overflow-wrap:anywhere}
.pill{display:inline-block;padding:5px 13px;border-radius:99px;font-weight:600;font-size:14px;overflow-wrap:anywhere}
.pill.good{background:var(--good-soft);color:var(--good)}
.pill.bad{background:var(--bad-soft);color:var(--bad)}
.facts{display:flex;flex-wrap:wrap;gap:6px 28px;margin:18px 0 0;padding:0;color:var(--muted);font-size:14px}
.facts div{display:flex;gap:8px;min-width:0}
.facts dt{color:var(--muted)}
.facts dd{margin:0;color:var(--ink);overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(4,minmax(0,1fr));gap:14px;margin:28px 0 0}
.card{background:var(--surface);border:1px solid var(--line);border-radius:12px;padding:16px 18px;box-shadow:var(--shadow)}
.card .k{color:var(--muted);font-size:13px}
.card .v{font-size:26px;font-weight:650;letter-spacing:-.02em;line-height:1.25;margin-top:2px;white-space:nowrap}
.card .v.bad{color:var(--bad)}
.card .v.good{color:var(--good)}
.card .n{color:var(--muted);font-size:13px;margin-top:2px}
.meter{height:5px;border-radius:3px;background:var(--raised);margin:9px 0 5px;overflow:hidden}
.meter i{display:block;height:100%;border-radius:3px}
section{background:var(--surface);border:1px solid var(--line);border-radius:14px;padding:24px 26px 26px;margin-top:24px;
  box-shadow:var(--shadow)}
h2{font-size:19px;letter-spacing:-.01em;margin:0}
h3{font-size:14px;font-weight:650;margin:26px 0 8px}
.lead{color:var(--muted);margin:4px 0 18px;max-width:100ch}
.cols{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:30px}
.scroll{overflow-x:auto;margin:0 -6px;padding:0 6px}
.tall{max-height:430px;overflow:auto;border:1px solid var(--line);border-radius:10px;margin:0;padding:0}
.tall th{position:sticky;top:0;background:var(--raised);z-index:1}
table{border-collapse:collapse;width:100%;font-size:14px}
th{font-weight:600;color:var(--muted);font-size:12.5px;text-align:right;padding:7px 10px;border-bottom:1px solid var(--line);
  white-space:nowrap;vertical-align:bottom}
td{padding:6px 10px;border-bottom:1px solid var(--grid);text-align:right;white-space:nowrap}
tr:last-child td{border-bottom:0}
.total td{border-top:1px solid var(--line);font-weight:600}
.l{text-align:left}
td.l{white-space:normal;overflow-wrap:anywhere}
td.name{white-space:nowrap;overflow-wrap:normal}
.zero{color:var(--muted);opacity:.75}
.badn{color:var(--bad);font-weight:600}
.tag{display:inline-block;font-size:12px;color:var(--muted);border:1px solid var(--line);border-radius:5px;padding:0 6px}
.heat{position:relative;isolation:isolate;min-width:92px}
.heat::before{content:"";position:absolute;inset:2px;border-radius:6px;background:var(--h,var(--c1));opacity:var(--o,0);
  z-index:-1}
.heat small{display:block;font-size:11.5px;line-height:1.2}
.stack{display:flex;height:12px;border-radius:4px;overflow:hidden;background:none;min-width:160px}
.stack i{display:block;height:100%;min-width:1px}
.stack.waste{background:none}
.hatch{background:repeating-linear-gradient(135deg,var(--c7) 0 1.5px,transparent 1.5px 5px);
  box-shadow:inset 0 0 0 1px var(--c7);opacity:.6;border-radius:0 4px 4px 0}
.legend{display:flex;flex-wrap:wrap;gap:5px 18px;font-size:13px;color:var(--muted);margin:0 0 10px;padding:0;list-style:none}
.legend li{display:flex;align-items:center;gap:7px}
.legend i{width:12px;height:12px;border-radius:3px;flex:none}
.legend i.thin{height:3px;border-radius:2px;width:16px}
.legend i.dash{height:0;background:none;border-top:2px dashed var(--ink);width:16px;border-radius:0}
.legend i.soft{opacity:.35}
.legend i.tick{width:3px;border-radius:1px}
svg{display:block;width:100%;height:auto;min-width:720px;overflow:visible}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif;fill:var(--muted);
  font-variant-numeric:tabular-nums;paint-order:stroke;stroke:var(--surface);stroke-width:4px;stroke-linejoin:round}
svg text.strong{fill:var(--ink);font-weight:600}
svg .grid{stroke:var(--grid);stroke-width:1}
svg .axis{stroke:var(--line);stroke-width:1}
svg .budget{stroke:var(--ink);stroke-width:1.4;stroke-dasharray:5 4;fill:none}
svg .cross{stroke:var(--muted);stroke-width:1;visibility:hidden}
svg .mark{stroke:var(--ink);stroke-width:1.5}
.none{color:var(--muted);padding:14px 0 0}
.ok{color:var(--good);font-weight:600}
pre{background:var(--raised);border-radius:10px;padding:14px 16px;overflow:auto;max-height:460px;margin:10px 0 0;
  line-height:1.5;font-size:12.5px}
details{border-top:1px solid var(--line);padding:12px 0}
details:first-of-type{margin-top:14px}
details:last-of-type{padding-bottom:0}
summary{cursor:pointer;font-weight:600;font-size:14px}
summary small{color:var(--muted);font-weight:400;margin-left:8px;font-size:13px}
.blocks{display:grid;grid-template-columns:repeat(auto-fill,minmax(17px,1fr));gap:3px}
.blocks.few{grid-template-columns:repeat(auto-fill,minmax(32px,1fr));gap:5px}
.blocks.some{grid-template-columns:repeat(auto-fill,minmax(24px,1fr));gap:4px}
.blocks.many{grid-template-columns:repeat(auto-fill,minmax(9px,1fr));gap:2px}
.b{position:relative;display:block;aspect-ratio:1;border-radius:3px;overflow:hidden;box-shadow:inset 0 0 0 1px var(--col)}
.b::before{content:"";position:absolute;left:0;right:0;bottom:0;height:var(--u,0%);background:var(--col)}
.b::after{content:"";position:absolute;inset:0;background:var(--col);opacity:.14}
.b.absent{box-shadow:none;background:var(--raised);opacity:.55}
.b.absent::before,.b.absent::after{display:none}
.b.b.transit.c7{box-shadow:none;background:repeating-linear-gradient(135deg,var(--col) 0 1.5px,transparent 1.5px 4px)}
.blocks.focus .b:not(.lit){opacity:.18}
.time{display:flex;align-items:center;gap:14px;margin:0 0 16px;flex-wrap:wrap}
.time input{flex:1;min-width:180px;accent-color:var(--accent)}
.time output{font-size:14px;color:var(--muted)}
.needs-js{display:none}
.js .needs-js{display:flex}
button.needs-js{display:none}
.js button.needs-js{display:inline-block}
#tip{position:fixed;z-index:9;pointer-events:none;background:var(--ink);color:var(--bg);border-radius:8px;padding:7px 11px;
  font-size:12.5px;line-height:1.45;white-space:pre-line;max-width:340px;visibility:hidden;overflow-wrap:anywhere;
  box-shadow:0 4px 16px #0004}
footer{color:var(--muted);font-size:13px;margin-top:28px;text-align:center}
.versus{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:14px;margin-top:24px}
.versus .card .v{font-size:21px}
.swatch{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:8px}
@media (max-width:980px){.cards{grid-template-columns:repeat(2,minmax(0,1fr))}.cols{grid-template-columns:minmax(0,1fr);gap:0}}
@media (max-width:560px){main{padding:22px 14px 44px}.bar .in{padding:0 14px}section{padding:18px 16px 20px}header h1{
  font-size:24px}.card{padding:12px 14px}.card .v{font-size:20px}.versus{grid-template-columns:minmax(0,1fr)}.cards{gap:10px}}
@media print{.bar,button,.time input{display:none!important}body{background:#fff;font-size:12px}section,.card{box-shadow:none;
  break-inside:avoid}main{max-width:none;padding:0}.tall,pre{max-height:none;overflow:visible}*{
  -webkit-print-color-adjust:exact;print-color-adjust:exact}}
)css";

[[nodiscard]] std::string category_rules() {
  std::string rules;
  for (const char digit : {'1', '2', '3', '4', '5', '6', '7', '8', '9'}) {
    const std::string name{'c', digit};
    rules += "." + name + "{--col:var(--" + name + ");background:var(--" + name + ");fill:var(--" + name + ")}";
    rules += "svg .line." + name + "{background:none;fill:none;stroke:var(--" + name + ");stroke-width:1.8;stroke-linejoin:round}";
    rules += ".b." + name + "{background:none}";
  }
  rules += ".cbad{--col:var(--bad);background:var(--bad);fill:var(--bad)}svg text.cbad{fill:var(--bad)}";
  return rules;
}

}  // namespace

std::string_view page_style() {
  // Printing is always light: the dark variables hold for screens only.
  static const std::string style = [] {
    const std::string dark = "{color-scheme:dark;" + std::string(dark_colours) + "}}\n";
    std::string rules = ":root{color-scheme:light;" + std::string(light_colours) + "}\n";
    rules += "@media screen and (prefers-color-scheme:dark){:root:not([data-theme=light])" + dark;
    rules += "@media screen{:root[data-theme=dark]" + dark;
    return rules + std::string(layout) + category_rules();
  }();
  return style;
}

}  // namespace kmem::tool::report
