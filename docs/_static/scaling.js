// The calculator of howto/scaling: from measured figures to workers, hosts and buses.
(() => {
  const fields = [
    ["sessions", "Sessions", 100000],
    ["kib", "Memory of a session with your handler, KiB", 60],
    ["rate", "Units of work of a session, per second (messages delivered, requests)", 2],
    ["micros", "Processor time of a unit, µs", 30],
    ["bytes", "Bytes of a unit", 200],
    ["load", "Load of a processor at which latency stays low, %", 50],
    ["cores", "Processors of a host", 16],
    ["ram", "Memory of a host, GiB", 64],
    ["network", "Network of a host, Gbit/s", 10],
    ["publishes", "Publishes of all sessions together, per second", 2000],
    ["subscribed", "Processes that have subscribed to a room", 10],
    ["busMicros", "Processor time of the bus for a publish and one process, µs", 2],
  ];

  function compute(given) {
    const work = given.sessions * given.rate;
    const workers = Math.max(1, Math.ceil((work * given.micros) / 1e6 / (given.load / 100)));
    const memory = (given.sessions * given.kib) / 1024 / 1024;
    // Headers of packets, acknowledgements.
    const gigabits = (work * (given.bytes + 60) * 8) / 1e9;
    const hosts = Math.max(
      Math.ceil(workers / given.cores),
      Math.ceil(memory / (0.8 * given.ram)),
      Math.ceil(gigabits / (0.5 * given.network)),
    );
    const bus = (given.publishes * (1 + given.subscribed) * given.busMicros) / 1e6;
    return {
      workers,
      memoryGib: Math.round(memory * 10) / 10,
      gigabits: Math.round(gigabits * 100) / 100,
      hosts: hosts + 1,
      busServers: Math.max(1, Math.ceil(bus / 0.5)),
    };
  }

  function build(place) {
    const form = document.createElement("form");
    const inputs = {};
    for (const [name, title, value] of fields) {
      const label = document.createElement("label");
      label.textContent = title;
      const input = document.createElement("input");
      Object.assign(input, { type: "number", min: "0", step: "any", value, name });
      label.append(input);
      form.append(label);
      inputs[name] = input;
    }
    const answer = document.createElement("output");
    form.append(answer);
    const show = () => {
      const given = {};
      for (const [name] of fields) given[name] = Number(inputs[name].value);
      const found = compute(given);
      answer.textContent =
        `${found.workers} workers, ${found.memoryGib} GiB, ${found.gigabits} Gbit/s: ` +
        `${found.hosts} hosts with one to spare, ${found.busServers} bus server` +
        (found.busServers === 1 ? "" : "s");
    };
    form.addEventListener("input", show);
    form.addEventListener("submit", (event) => event.preventDefault());
    show();
    place.replaceChildren(form);
  }

  const begin = () => {
    const place = document.getElementById("scaling-calculator");
    if (place) build(place);
  };
  globalThis.scalingCalculator = { compute, build };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
