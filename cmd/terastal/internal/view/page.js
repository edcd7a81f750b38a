// The timeline and the theme button. Data comes from #timeline-data; timeline.go
// says how it is encoded. Names reach the page as text, never as markup.
(function () {
  'use strict';
  const $ = id => document.getElementById(id);
  const root = document.documentElement;
  const redraws = [];
  const redraw = () => redraws.forEach(f => f());

  const themes = ['system', 'light', 'dark'];
  let theme = 0;
  function setTheme(name) {
    if (name === 'system') delete root.dataset.theme; else root.dataset.theme = name;
    redraw();
  }
  const button = $('theme');
  button.hidden = false;
  button.addEventListener('click', () => {
    theme = (theme + 1) % themes.length;
    button.textContent = 'Theme: ' + themes[theme];
    setTheme(themes[theme]);
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
  addEventListener('beforeprint', () => setTheme('light'));
  addEventListener('afterprint', () => setTheme(themes[theme]));

  const source = $('timeline-data');
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const outcomes = ['pending', 'met', 'late', 'dropped', 'failed'];
  const MET = 1, COLOURS = 8;
  const perMS = 1e6 / data.unit_ns;

  // Variable-length integers of a base64 string.
  function reader(text) {
    const s = atob(text);
    let i = 0;
    const u = () => {
      let x = 0, f = 1;
      for (;;) {
        const b = s.charCodeAt(i++);
        x += (b & 127) * f;
        if (b < 128) return x;
        f *= 128;
      }
    };
    return { u, z: () => { const x = u(); return x % 2 ? -(x + 1) / 2 : x / 2; } };
  }

  function decode(log) {
    if (log.ready) return log.ready;
    const n = log.n_jobs, m = log.n_runs, system = data.systems[log.system];
    const job = { id: [], model: new Uint16Array(n), release: new Float64Array(n), noticed: new Float64Array(n), deadline: new Float64Array(n), outcome: new Uint8Array(n), end: new Float64Array(n), detail: new Uint32Array(n) };
    const byID = new Map();
    let r = reader(log.jobs), id = -1, at = 0;
    for (let i = 0; i < n; i++) {
      id += r.z() + 1;
      job.id.push(id);
      byID.set(id, i);
      job.model[i] = r.u();
      at += r.z();
      job.release[i] = at;
      job.noticed[i] = at + r.u();
      job.deadline[i] = at + r.u();
      job.outcome[i] = r.u();
      job.end[i] = job.noticed[i] + r.u();
      job.detail[i] = r.u();
    }
    const run = { job: new Uint32Array(m), acc: new Uint8Array(m), impl: new Uint8Array(m), layer: new Uint16Array(m), reason: new Uint16Array(m), dispatch: new Float64Array(m), begin: new Float64Array(m), start: new Float64Array(m), end: new Float64Array(m), predicted: new Float64Array(m) };
    const lanes = system.accelerators.map(() => []), ends = system.accelerators.map(() => 0);
    r = reader(log.runs);
    let before = 0;
    for (let i = 0; i < m; i++) {
      before += r.z();
      run.job[i] = before;
      run.layer[i] = r.u();
      const k = r.u();
      run.acc[i] = k;
      run.impl[i] = r.u();
      run.reason[i] = r.u();
      run.dispatch[i] = ends[k] + r.z();
      run.begin[i] = run.dispatch[i] + r.u();
      run.start[i] = run.begin[i] + r.z();
      run.end[i] = ends[k] = run.start[i] + r.u();
      run.predicted[i] = run.end[i] + r.z();
      lanes[k].push(i);
    }
    const missed = [];
    for (let i = 0; i < n; i++) if (job.outcome[i] !== MET) missed.push({ job: i, at: Math.min(job.deadline[i], job.end[i]) });
    missed.sort((a, b) => a.at - b.at);
    return log.ready = { log, system, job, run, lanes, missed, byID };
  }

  const lanes = $('lanes'), overview = $('overview'), detail = $('detail');
  const LABEL = 16, LANE = 32, MISSES = 18, AXIS = 22;
  let d, from = 0, to = 1, selected = -1, hovered = -1;

  let colours;
  function readColours() {
    const probe = document.createElement('i');
    probe.className = 'probe';
    document.body.append(probe);
    const of = (name) => { probe.style.color = `var(--${name})`; return getComputedStyle(probe).color; };
    colours = { series: [...Array(COLOURS).keys()].map(i => of('c' + i)) };
    for (const name of ['text', 'quiet', 'rule', 'bad', 'page', 'panel', 'on-series']) colours[name] = of(name);
    probe.remove();
    const tile = document.createElement('canvas');
    tile.width = tile.height = 6;
    const g = tile.getContext('2d');
    g.strokeStyle = colours.page;
    g.lineWidth = 1.6;
    g.beginPath();
    for (const x of [-6, 0, 6]) { g.moveTo(x - 1, 7); g.lineTo(x + 7, -1); }
    g.stroke();
    colours.hatch = tile;
  }

  function prepare(canvas, height) {
    const w = canvas.clientWidth, ratio = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(w * ratio));
    canvas.height = Math.round(height * ratio);
    canvas.style.height = height + 'px';
    const g = canvas.getContext('2d');
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, w, height);
    g.font = '11px system-ui, sans-serif';
    return [g, w];
  }

  // first is the first of a lane's runs that ends after t.
  function first(lane, t) {
    let a = 0, b = lane.length;
    while (a < b) {
      const mid = (a + b) >> 1;
      if (d.run.end[lane[mid]] <= t) a = mid + 1; else b = mid;
    }
    return a;
  }

  function clock(t, step) {
    const v = t / perMS;
    if (step >= 1000 * perMS) return (v / 1000).toFixed(0) + ' s';
    if (step >= 100 * perMS) return (v / 1000).toFixed(1) + ' s';
    return v.toFixed(Math.max(0, Math.ceil(-Math.log10(step / perMS) - 1e-9))) + ' ms';
  }

  function niceStep(x) {
    const e = Math.pow(10, Math.floor(Math.log10(x)));
    return [1, 2, 5, 10].find(m => m * e >= x * 0.999999) * e;
  }

  const laneTop = k => k * (LABEL + LANE + 4) + LABEL;

  function draw() {
    if (!d) return;
    const names = d.system.accelerators;
    const misses = names.length * (LABEL + LANE + 4) + LABEL;
    const height = misses + MISSES + AXIS;
    const [g, w] = prepare(lanes, height);
    const scale = w / (to - from), X = t => (t - from) * scale;
    const step = niceStep((to - from) / Math.max(2, w / 110));
    g.strokeStyle = colours.rule;
    g.fillStyle = colours.quiet;
    g.textAlign = 'center';
    for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
      const x = X(t);
      g.beginPath();
      g.moveTo(x, 0);
      g.lineTo(x, misses + MISSES);
      g.stroke();
      const text = clock(t, step), half = g.measureText(text).width / 2;
      if (x - half >= 0 && x + half <= w) g.fillText(text, x, height - 7);
    }
    g.textAlign = 'left';
    for (const [k, a, b] of d.log.outages) {
      g.fillStyle = colours.rule;
      g.fillRect(X(a), laneTop(k), Math.max(1, X(b) - X(a)), LANE);
    }
    const hatch = g.createPattern(colours.hatch, 'repeat');
    names.forEach((name, k) => drawLane(g, k, X, hatch, w));
    g.fillStyle = colours.text;
    names.forEach((name, k) => g.fillText(name, 4, laneTop(k) - 4, w - 8));
    g.fillText('missed requests', 4, misses - 4);
    g.fillStyle = colours.bad;
    let last = -9;
    for (const m of d.missed) {
      if (m.at < from || m.at > to) continue;
      const x = X(m.at);
      if (x - last < 0.8) continue;
      last = x;
      g.fillStyle = m.job === selected ? colours.text : colours.bad;
      g.fillRect(x - 0.8, misses, 1.6, MISSES - 2);
    }
    drawSelection(g, X, misses + MISSES, w);
    $('range').textContent = `Showing ${clock(from, step / 10)} to ${clock(to, step / 10)} of ${(d.log.end / perMS / 1000).toPrecision(3)} s. ` +
      `${d.missed.length} of ${d.job.id.length} requests missed.`;
    drawOverview();
  }

  function drawLane(g, k, X, hatch, w) {
    const lane = d.lanes[k], y = laneTop(k), run = d.run, job = d.job;
    let last = -9;
    for (let n = first(lane, from); n < lane.length && run.start[lane[n]] < to; n++) {
      const i = lane[n], j = run.job[i], x = Math.max(-2, X(run.start[i])), x2 = Math.min(w + 2, X(run.end[i]));
      if (x2 - last < 0.7 && j !== selected) continue; // closer than pixels
      last = x2;
      const width = Math.max(0.7, x2 - x - (x2 - x > 4 ? 0.8 : 0));
      g.globalAlpha = selected >= 0 && j !== selected ? 0.28 : 1;
      g.fillStyle = colours.series[job.model[j] % COLOURS];
      g.fillRect(x, y, width, LANE);
      if (run.impl[i] > 0) {
        g.fillStyle = hatch; // below the name
        g.fillRect(x, y + LANE / 2, width, LANE / 2);
      }
      if (job.outcome[j] !== MET) {
        g.fillStyle = colours.bad;
        g.fillRect(x, y + LANE - 5, width, 5);
      }
      if (width > 46) {
        g.fillStyle = colours['on-series'];
        g.save();
        g.beginPath();
        g.rect(x, y, width - 2, LANE);
        g.clip();
        g.fillText(d.system.models[job.model[j]].name + ' ' + (run.layer[i] + 1), x + 4, y + 14);
        g.restore();
      }
      if (i === hovered || j === selected) {
        g.strokeStyle = colours.text;
        g.lineWidth = i === hovered ? 2 : 1.4;
        g.strokeRect(x + 0.5, y + 0.5, Math.max(1, width - 1), LANE - 1);
        g.lineWidth = 1;
      }
    }
    g.globalAlpha = 1;
  }

  function runsOf(j) {
    const out = [];
    for (let i = 0; i < d.run.job.length; i++) if (d.run.job[i] === j) out.push(i);
    return out;
  }

  function drawSelection(g, X, bottom, w) {
    if (selected < 0) return;
    const runs = runsOf(selected), middle = i => laneTop(d.run.acc[i]) + LANE / 2;
    g.strokeStyle = colours.text;
    g.setLineDash([3, 3]);
    g.beginPath();
    for (let n = 1; n < runs.length; n++) {
      g.moveTo(X(d.run.end[runs[n - 1]]), middle(runs[n - 1]));
      g.lineTo(X(d.run.start[runs[n]]), middle(runs[n]));
    }
    g.stroke();
    for (const [t, name, colour] of [[d.job.release[selected], 'released', colours.text], [d.job.deadline[selected], 'deadline', colours.bad]]) {
      const x = X(t);
      if (x < 0 || x > w) continue;
      g.strokeStyle = g.fillStyle = colour;
      g.beginPath();
      g.moveTo(x, 0);
      g.lineTo(x, bottom);
      g.stroke();
      const left = x + 60 > w;
      g.textAlign = left ? 'right' : 'left';
      g.fillText(name, left ? x - 4 : x + 4, bottom - 4);
      g.textAlign = 'left';
    }
    g.setLineDash([]);
  }

  function drawOverview() {
    const h = 34, [g, w] = prepare(overview, h), all = d.log.end || 1;
    const bins = new Uint32Array(Math.max(1, Math.ceil(w / 2)));
    for (const m of d.missed) bins[Math.min(bins.length - 1, Math.floor(m.at / all * bins.length))]++;
    let most = 1;
    for (const n of bins) most = Math.max(most, n);
    g.fillStyle = colours.bad;
    bins.forEach((n, i) => { if (n) g.fillRect(i * 2, h - Math.max(2, n / most * (h - 14)), 2, h); });
    g.fillStyle = colours.quiet;
    g.fillText('missed over the run', 4, 11);
    g.strokeStyle = colours.text;
    g.lineWidth = 2;
    g.strokeRect(from / all * w + 1, 1, Math.max(3, (to - from) / all * w - 2), h - 2);
  }

  function show(a, b) {
    const all = d.log.end || 1, least = 2 * perMS / 1000; // 2 us
    let width = Math.min(all, Math.max(least, b - a));
    let mid = (a + b) / 2;
    from = Math.min(Math.max(0, mid - width / 2), all - width);
    to = from + width;
    schedule();
  }
  let pending = false;
  function schedule() {
    if (pending) return;
    pending = true;
    requestAnimationFrame(() => { pending = false; draw(); });
  }
  const zoom = (factor, at) => {
    const t = at === undefined ? (from + to) / 2 : at;
    show(t - (t - from) * factor, t + (to - t) * factor);
  };
  const pan = share => show(from + share * (to - from), to + share * (to - from));

  const us = t => {
    const v = t / perMS;
    return Math.abs(v) >= 1 ? v.toFixed(Math.abs(v) >= 100 ? 0 : 2) + ' ms' : (v * 1000).toFixed(1) + ' us';
  };
  const signed = t => (t < 0 ? '−' : '+') + us(Math.abs(t));

  function element(name, text, parent) {
    const e = document.createElement(name);
    if (text !== undefined) e.textContent = text;
    if (parent) parent.append(e);
    return e;
  }

  function layerName(i) {
    const l = d.system.models[d.job.model[d.run.job[i]]].layers[d.run.layer[i]];
    return { name: l[0], implementation: l[1 + d.run.impl[i]] };
  }

  function describeJob(j, dl) {
    const job = d.job, add = (k, v) => { const box = element('div', undefined, dl); element('dt', k, box); element('dd', v, box); };
    add('request', `${job.id[j]} of ${d.system.models[job.model[j]].name}`);
    add('released', clock(job.release[j], 0.01 * perMS) + (job.noticed[j] - job.release[j] > 0.05 * perMS ? `, noticed ${us(job.noticed[j] - job.release[j])} later` : ''));
    add('deadline', us(job.deadline[j] - job.release[j]) + ' after');
    add('outcome', outcomes[job.outcome[j]] + (data.details[job.detail[j]] ? ': ' + data.details[job.detail[j]] : '') + ', ' + us(job.end[j] - job.release[j]) + ' after release');
    return add;
  }

  function describe() {
    detail.replaceChildren();
    const i = hovered, j = i >= 0 ? d.run.job[i] : selected;
    if (j < 0) {
      element('p', 'Point at a layer for its details; select it to follow its request.', detail).className = 'small';
      return;
    }
    const dl = element('dl', undefined, detail), add = describeJob(j, dl);
    if (i >= 0) {
      const run = d.run, l = layerName(i);
      add('layer', `${run.layer[i] + 1} of ${d.system.models[d.job.model[j]].layers.length}: ${l.name}`);
      add('implementation', l.implementation);
      add('accelerator', d.system.accelerators[run.acc[i]]);
      add('took', us(run.end[i] - run.start[i]));
      const ahead = run.begin[i] - run.dispatch[i]; // what it waited for had not ended when it was decided
      add(ahead > 0 ? 'from when it could begin to end' : 'from dispatch to end', `${us(run.end[i] - run.begin[i])}, predicted ${us(run.predicted[i] - run.begin[i])}`);
      if (ahead > 0) add('decided', us(ahead) + ' before it could begin');
      if (data.reasons[run.reason[i]]) add('reason', data.reasons[run.reason[i]]);
      return;
    }
    const box = element('div', undefined, detail);
    box.className = 'scroll';
    const table = element('table', undefined, box), head = element('tr', undefined, element('thead', undefined, table)), body = element('tbody', undefined, table);
    for (const h of ['layer', 'name', 'implementation', 'accelerator', 'waited', 'took', 'against prediction', 'reason']) element('th', h, head).scope = 'col';
    let before = d.job.release[j];
    for (const n of runsOf(j)) {
      const run = d.run, l = layerName(n), row = element('tr', undefined, body);
      for (const text of [run.layer[n] + 1, l.name, l.implementation, d.system.accelerators[run.acc[n]], us(run.start[n] - before), us(run.end[n] - run.start[n]), signed(run.end[n] - run.predicted[n]), data.reasons[run.reason[n]] || '']) element('td', text, row);
      before = run.end[n];
    }
  }

  function hit(e) {
    const box = lanes.getBoundingClientRect(), t = from + (e.clientX - box.left) / box.width * (to - from), y = e.clientY - box.top;
    const slack = 3 / box.width * (to - from);
    for (let k = 0; k < d.lanes.length; k++) {
      if (y < laneTop(k) || y > laneTop(k) + LANE) continue;
      const lane = d.lanes[k], n = first(lane, t - slack);
      if (n < lane.length && d.run.start[lane[n]] <= t + slack) return lane[n];
    }
    return -1;
  }

  function select(j) {
    selected = j;
    hovered = -1;
    $('request').value = j < 0 ? '' : d.job.id[j];
    describe();
    schedule();
  }

  function goTo(j) {
    const a = Math.min(d.job.release[j], d.job.end[j]), b = Math.max(d.job.deadline[j], d.job.end[j]);
    show(a - 0.3 * (b - a), b + 0.3 * (b - a));
    select(j);
  }

  // miss goes to the next missed request (by 1) or the one before (by -1).
  function miss(by) {
    const list = d.missed;
    if (!list.length) return;
    let n = list.findIndex(m => m.job === selected);
    if (n < 0) {
      const mid = (from + to) / 2;
      n = list.findIndex(m => m.at >= mid);
      if (n < 0) n = list.length;
      if (by > 0) n--;
    }
    goTo(list[(n + by + list.length) % list.length].job);
  }

  function load(n) {
    // A request has the same number under every policy: it stays selected.
    const id = d && selected >= 0 ? d.job.id[selected] : -1;
    d = decode(data.logs[n]);
    selected = id >= 0 && d.byID.has(id) ? d.byID.get(id) : -1;
    hovered = -1;
    if (selected < 0) $('request').value = '';
    $('models').replaceChildren();
    const item = (swatch, name) => {
      const li = document.createElement('li');
      element('span', undefined, li).className = 'swatch ' + swatch;
      li.append(name);
      $('models').append(li);
    };
    d.system.models.forEach((m, i) => item('s' + i % COLOURS, m.name));
    if (d.run.impl.some(x => x > 0)) item('variant', 'a variant');
    if (d.missed.length) item('missed', 'of a missed request');
    describe();
  }

  data.logs.forEach((l, n) => { const o = element('option', l.label, $('log')); o.value = n; });
  $('log-label').hidden = data.logs.length < 2;
  $('log').addEventListener('change', e => { const a = from, b = to; load(+e.target.value); show(a, b); });
  $('interactive').hidden = false;
  readColours();
  $('log').value = data.first;
  load(data.first);
  if (d.missed.length) {
    const j = d.missed[0].job, span = d.job.deadline[j] - d.job.release[j];
    show(d.job.release[j] - 0.5 * span, d.job.release[j] + 2.5 * span);
  } else show(0, d.job.id.length ? 4 * (d.job.deadline[0] - d.job.release[0]) : d.log.end);
  draw();
  redraws.push(() => { readColours(); draw(); });
  new ResizeObserver(schedule).observe(lanes);

  for (const [id, f] of [['zoom-in', () => zoom(0.5)], ['zoom-out', () => zoom(2)], ['left', () => pan(-0.5)], ['right', () => pan(0.5)],
    ['whole', () => show(0, d.log.end)], ['previous-miss', () => miss(-1)], ['next-miss', () => miss(1)]]) $(id).addEventListener('click', f);
  $('request').addEventListener('change', e => {
    const j = d.byID.get(+e.target.value);
    if (j !== undefined && e.target.value !== '') goTo(j);
  });
  lanes.addEventListener('keydown', e => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const act = { ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), '+': () => zoom(0.6), '=': () => zoom(0.6), '-': () => zoom(1 / 0.6), '0': () => show(0, d.log.end), n: () => miss(1), p: () => miss(-1), Escape: () => select(-1) }[e.key];
    if (!act) return;
    e.preventDefault();
    act();
  });
  lanes.addEventListener('wheel', e => {
    const box = lanes.getBoundingClientRect(), t = from + (e.clientX - box.left) / box.width * (to - from);
    if (e.ctrlKey || e.metaKey) zoom(Math.exp(e.deltaY * 0.003), t);
    else if (Math.abs(e.deltaX) > Math.abs(e.deltaY) || e.shiftKey) pan((e.deltaX || e.deltaY) / box.width);
    else return; // the page scrolls
    e.preventDefault();
  }, { passive: false });

  // One pointer drags, two zoom, a short touch selects.
  const pointers = new Map();
  let moved = 0;
  lanes.addEventListener('pointerdown', e => {
    lanes.setPointerCapture(e.pointerId);
    pointers.set(e.pointerId, e.clientX);
    if (pointers.size === 1) moved = 0;
  });
  lanes.addEventListener('pointermove', e => {
    const width = lanes.getBoundingClientRect().width;
    if (!pointers.has(e.pointerId)) {
      const i = hit(e);
      if (i !== hovered) { hovered = i; describe(); schedule(); }
      return;
    }
    const was = [...pointers.values()];
    pointers.set(e.pointerId, e.clientX);
    const is = [...pointers.values()];
    if (is.length === 1) {
      moved += Math.abs(is[0] - was[0]);
      pan((was[0] - is[0]) / width);
    } else {
      moved = Infinity;
      const gap = x => Math.max(10, Math.abs(x[0] - x[1])), mid = (is[0] + is[1]) / 2 - lanes.getBoundingClientRect().left;
      zoom(gap(was) / gap(is), from + mid / width * (to - from));
    }
  });
  lanes.addEventListener('pointerup', e => {
    if (pointers.delete(e.pointerId) && moved < 5) {
      const i = hit(e);
      select(i < 0 ? -1 : d.run.job[i]);
    }
  });
  lanes.addEventListener('pointercancel', e => pointers.delete(e.pointerId));
  lanes.addEventListener('pointerleave', () => { if (hovered >= 0) { hovered = -1; describe(); schedule(); } });
  const jump = e => {
    const box = overview.getBoundingClientRect(), t = (e.clientX - box.left) / box.width * d.log.end, half = (to - from) / 2;
    show(t - half, t + half);
  };
  overview.addEventListener('pointerdown', e => { overview.setPointerCapture(e.pointerId); jump(e); });
  overview.addEventListener('pointermove', e => { if (e.buttons) jump(e); });
})();
