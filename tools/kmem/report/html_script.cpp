// The script of the HTML report: tooltips, the crosshair of the time picture, the slider of the page-block map, the
// theme switch, unfolding for print. Names from a trace only ever reach the page through textContent.

#include "html_parts.hpp"

namespace kmem::tool::report {

std::string_view page_script() {
  return R"js(
(function(){
'use strict';
var doc=document,root=doc.documentElement;
root.classList.add('js');
function get(id){return doc.getElementById(id)}
function data(id){var e=get(id);return e?JSON.parse(e.textContent):null}
function bytes(v){var u=['B','KiB','MiB','GiB','TiB'],i=0;while(v>=1023.5&&i<4){v/=1024;i++}
  return (i===0?v:+v.toPrecision(v<1000?3:4))+' '+u[i]}
function count(v){return String(v).replace(/\B(?=(\d{3})+$)/g,' ')}
function secs(ns){return ns>=1e9?(ns/1e9).toFixed(2)+' s':ns>=1e6?(ns/1e6).toFixed(2)+' ms':(ns/1e3).toFixed(1)+' \u00b5s'}

var tip=get('tip');
function place(x,y){var w=tip.offsetWidth,h=tip.offsetHeight;
  tip.style.left=Math.max(8,Math.min(x+14,innerWidth-w-8))+'px';
  tip.style.top=(y+18+h>innerHeight?Math.max(8,y-h-12):y+18)+'px'}
function show(text,x,y){tip.textContent=text;tip.style.visibility='visible';place(x,y)}
function hide(){tip.style.visibility='hidden'}
doc.addEventListener('pointermove',function(e){var t=e.target.closest?e.target.closest('[data-tip]'):null;
  if(t)show(t.getAttribute('data-tip'),e.clientX,e.clientY);else if(!e.target.closest||!e.target.closest('[data-series]'))hide()});
doc.addEventListener('focusin',function(e){var t=e.target.closest('[data-tip]');
  if(t){var r=t.getBoundingClientRect();show(t.getAttribute('data-tip'),r.left,r.bottom-14)}});
doc.addEventListener('focusout',hide);
doc.addEventListener('keydown',function(e){if(e.key==='Escape')hide()});

doc.querySelectorAll('svg[data-series]').forEach(function(svg){
  var d=data(svg.getAttribute('data-series')),cross=svg.querySelector('.cross'),at=-1;
  if(!d||!d.t.length)return;
  function pick(i,x,y){at=i;var px=d.left+d.width*(d.span?d.t[i]/d.span:0);
    cross.setAttribute('x1',px);cross.setAttribute('x2',px);cross.style.visibility='visible';
    var box=svg.getBoundingClientRect();
    if(x===undefined){x=box.left+px*box.width/d.view;y=box.top+box.height/3}
    var lines=[secs(d.t[i])];
    d.rows.forEach(function(r){var v=r.v[i];if(v===null)return;lines.push(r.n+'  '+(r.u==='b'?bytes(v):count(v)))});
    show(lines.join('\n'),x,y)}
  function nearest(e){var box=svg.getBoundingClientRect(),px=(e.clientX-box.left)*d.view/box.width,
    t=(px-d.left)/d.width*d.span,lo=0,hi=d.t.length-1;
    while(hi-lo>1){var m=(lo+hi)>>1;if(d.t[m]<t)lo=m;else hi=m}
    return Math.abs(d.t[lo]-t)<Math.abs(d.t[hi]-t)?lo:hi}
  function leave(){cross.style.visibility='hidden';hide()}
  svg.addEventListener('pointermove',function(e){pick(nearest(e),e.clientX,e.clientY)});
  svg.addEventListener('pointerleave',leave);
  svg.addEventListener('blur',leave);
  svg.addEventListener('keydown',function(e){var step=e.shiftKey?10:1;
    if(e.key==='ArrowRight')pick(Math.min(d.t.length-1,at+step));
    else if(e.key==='ArrowLeft')pick(Math.max(0,at-step));
    else if(e.key==='Home')pick(0);else if(e.key==='End')pick(d.t.length-1);else return;
    e.preventDefault()})});

var maps=data('block-data');
if(maps){(function(){
  var grid=get('blocks'),cells=grid.children,range=get('block-range'),out=get('block-out'),play=get('block-play'),timer=0;
  var legend=doc.querySelectorAll('[data-group]');
  function draw(n){var s=maps.maps[n],seen={},i,k;
    for(i=0;i<cells.length;i++){cells[i].className='b absent';cells[i].removeAttribute('data-g');
      cells[i].setAttribute('data-tip','block '+maps.index[i]+'\nnot backed')}
    for(i=0;i<s.b.length;i+=5){var c=cells[s.b[i]],owner=s.b[i+1],cache=s.b[i+2],used=s.b[i+3],g=s.b[i+4];
      k=maps.groups[g];c.className='b '+k.shade;c.setAttribute('data-g',g);c.style.setProperty('--u',(used/5.12).toFixed(1)+'%');
      c.setAttribute('data-tip','block '+maps.index[s.b[i]]+'\n'+maps.owners[owner]+(cache<0?'':', mostly '+maps.caches[cache])+
        '\n'+used+' of 512 pages in use');
      seen[g]=(seen[g]||0)+1}
    legend.forEach(function(l){l.querySelector('span').textContent=seen[l.getAttribute('data-group')]||0});
    out.textContent=secs(s.t)+' \u00b7 '+count(s.e)+' events \u00b7 '+s.b.length/5+' blocks'+(s.l?' \u00b7 '+s.l:'')}
  function stop(){clearInterval(timer);timer=0;play.textContent='Play'}
  range.addEventListener('input',function(){stop();draw(+range.value)});
  play.addEventListener('click',function(){if(timer)return stop();play.textContent='Pause';
    if(+range.value>=maps.maps.length-1)range.value=-1;
    timer=setInterval(function(){if(+range.value>=maps.maps.length-1)return stop();range.value=+range.value+1;draw(+range.value)},320)});
  function light(g){grid.classList.toggle('focus',g!==null);
    for(var i=0;i<cells.length;i++)cells[i].classList.toggle('lit',g!==null&&cells[i].getAttribute('data-g')===g)}
  legend.forEach(function(l){var g=l.getAttribute('data-group');
    l.addEventListener('pointerenter',function(){light(g)});l.addEventListener('pointerleave',function(){light(null)});
    l.addEventListener('focus',function(){light(g)});l.addEventListener('blur',function(){light(null)})});
  draw(+range.value)})()}

var theme=get('theme');
if(theme)theme.addEventListener('click',function(){
  var dark=root.getAttribute('data-theme')?root.getAttribute('data-theme')==='dark':matchMedia('(prefers-color-scheme:dark)').matches;
  root.setAttribute('data-theme',dark?'light':'dark')});
addEventListener('beforeprint',function(){doc.querySelectorAll('details').forEach(function(d){d.open=true})});
})();
)js";
}

}  // namespace kmem::tool::report
