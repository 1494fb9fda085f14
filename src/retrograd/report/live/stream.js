// The server's events, by fetch: EventSource gives up for good after a refusal, and never says why there was one.

const RETRIES = [1000, 2000, 4000, 8000]; // milliseconds until it is tried again, the last one from then on
const SILENCE = 10000; // the server says something every two seconds
const LONGEST_REASON = 200;

// Follows a stream to its "end", through what interrupts it. take: a function of the content for every kind of event;
// broken: told why there is no connection, and whether there will never be one again. A browser has six connections to
// one server, so where pages are many, one that is out of sight does without until it is looked at.
async function follow(address, take, broken) {
  let ended = false, crowded = false, failures = 0, connection = null, wake = () => {};
  const away = () => document.hidden && crowded;
  const woken = (patience) => new Promise((resolve) => {
    wake = resolve;
    if (patience !== undefined) setTimeout(resolve, patience);
  });
  document.addEventListener("visibilitychange", () => {
    if (away()) connection?.abort();
    if (!document.hidden) wake();
  });
  const kinds = {
    ...take,
    crowd: (content) => {
      crowded = content;
      if (away()) connection?.abort();
    },
    end: () => {
      ended = true;
      take.end();
    },
  };

  // Returns why there is nothing to read, and whether to ask no more.
  async function listen() {
    const response = await fetch(address, { signal: connection.signal, cache: "no-store" });
    if (!response.ok) return [(await response.text()).trim().slice(0, LONGEST_REASON), response.status < 500];
    // Some other program has the port now.
    if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) return ["no stream of events", true];
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    failures = 0;
    let rest = "", silence;
    try {
      for (;;) {
        silence = setTimeout(() => connection.abort(), SILENCE);
        const { value, done } = await reader.read();
        clearTimeout(silence);
        if (done) return ["", false];
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) {
          const [, kind, data] = /^event: (\w+)\ndata: (.*)$/.exec(block) ?? [];
          if (!Object.hasOwn(kinds, kind ?? "")) continue;
          try {
            kinds[kind](JSON.parse(data));
          } catch (error) {
            reportError(error); // the page's own: the connection is as it was
          }
        }
      }
    } finally {
      clearTimeout(silence);
    }
  }

  while (!ended) {
    connection = new AbortController();
    const [reason, final] = await listen().catch(() => ["", false]);
    if (ended) return;
    if (away()) {
      await woken();
      continue;
    }
    broken(reason, final);
    if (final) return;
    await woken(RETRIES[Math.min(failures, RETRIES.length - 1)]);
    failures += 1;
  }
}
