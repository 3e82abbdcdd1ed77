/**
 * footfall-js: the browser SDK of Footfall.
 *
 * It promises that an event which was made is counted once, or that its loss is counted:
 *
 * - What identifies an event (its ids, `messageId`, `timestamp`) is fixed before it is first sent, and every attempt
 *   sends the same. The server counts a `messageId` once, so sending again is always safe.
 * - An event leaves the queue when the server has acknowledged it. The queue is in localStorage, one for each page, and
 *   survives it: another page of the shop adopts the queue of a page that is gone.
 *
 * One request is in flight at a time, its body below what browsers let a leaving page send, and none needs a preflight.
 * Only a page that is being left may begin another, as long as all of them together are below that.
 */

declare const SCRIPT_TAG: boolean; // true in the build for <script>, which makes window.footfall
declare const VERSION: string;

/** Values of your own. They are sent as JSON. */
// With `unknown` a value whose type is an interface would be refused.
export type Properties = Record<string, any>;

/** What `init` takes. */
export interface Config {
  /** Your project's public key. */
  writeKey: string;
  /** Where Footfall is, such as `https://api.shop.example`. The script tag's own host unless given. */
  endpoint?: string;
  /** Count page views by itself: of the load, of routes of a single-page app, and of going back. Default true. */
  autoPage?: boolean;
  /** Measure for how long a page is used, and send it as `Page Left` when it is left. Default true. */
  engagement?: boolean;
  /** Whether a visitor who has not answered yet may be counted. Default true; false waits for `setConsent(true)`. */
  consent?: boolean;
}

/** A product, by the names of Segment's e-commerce specification. */
export interface Product extends Properties {
  product_id?: string | number;
  sku?: string;
  name?: string;
  category?: string;
  brand?: string;
  variant?: string;
  price?: number | string;
  quantity?: number;
  currency?: string;
}

/** A list of products. */
export interface ProductList extends Properties {
  list_id?: string;
  category?: string;
  products?: Product[];
}

/** A search in the shop. */
export interface Search extends Properties {
  query?: string;
}

/** A promotion, such as a banner. */
export interface Promotion extends Properties {
  promotion_id?: string;
  name?: string;
  creative?: string;
  position?: string;
}

/** A cart and what is in it. */
export interface Cart extends Properties {
  cart_id?: string;
  products?: Product[];
}

/** An order. With an `order_id` it counts once for the whole shop, however often its page is loaded again. */
export interface Order extends Properties {
  order_id?: string | number;
  /** Without shipping and tax. What is counted is `revenue`, else `total`. */
  revenue?: number | string;
  total?: number | string;
  shipping?: number | string;
  tax?: number | string;
  discount?: number | string;
  coupon?: string;
  /** ISO 4217, such as EUR; the shop's own unless given. */
  currency?: string;
  products?: Product[];
}

/** The SDK. */
export interface Footfall {
  /** The version of this SDK. */
  readonly version: string;
  /** How many events this page had to give up: over the limits, too old, or refused. */
  readonly lost: number;
  /** The visitor's anonymous id, for your server to name; empty without consent and before `init`. */
  readonly anonymousId: string;
  /** Start. What was called before waits for it; a second call does nothing. */
  init(config: Config): void;
  /** A page view. Not needed while `autoPage` is on. */
  page(name?: string, properties?: Properties): void;
  /** Something happened. Any name counts; some feed metrics of their own and have functions below. */
  track(name: string, properties?: Properties): void;
  /** The visitor is this user of yours, on this device and in everything they did before on it. */
  identify(userId: string | number, traits?: Properties, options?: { token?: string }): void;
  /** Somebody logged out: whoever comes next is somebody else. */
  reset(): void;
  /** Send what is queued now. Resolves when it has been sent, or cannot be at present. */
  flush(): Promise<void>;
  /** The visitor's answer. It is remembered. `false` removes all else that is stored, and stops everything. */
  setConsent(given: boolean): void;

  productsSearched(properties?: Search): void;
  productListViewed(properties?: ProductList): void;
  productViewed(properties?: Product): void;
  promotionClicked(properties?: Promotion): void;
  productAdded(properties?: Product): void;
  productRemoved(properties?: Product): void;
  cartViewed(properties?: Cart): void;
  productAddedToWishlist(properties?: Product): void;
  checkoutStarted(properties?: Order): void;
  orderCompleted(properties?: Order): void;
  orderRefunded(properties?: Order): void;
  orderCancelled(properties?: Order): void;
}

declare global {
  interface Window {
    footfall?: Footfall;
  }
}

// Not declared globally: the shop's TypeScript may know them already, and otherwise.
type Signalling = Navigator & { readonly globalPrivacyControl?: boolean };
type Prerendered = Document & { readonly prerendering?: boolean };
type Navigating = { readonly navigation?: EventTarget };

interface Page {
  path: string;
  url: string;
  referrer: string;
  title: string;
}

interface WireEvent {
  type: string;
  messageId: string;
  timestamp?: string;
  [field: string]: unknown;
}

/** An event in the queue. The short names are stored a thousand times. */
interface Entry {
  e: WireEvent;
  /** When it was made, by this device's clock. */
  at: number;
  /** When it was sent by a page that has not heard of it since: it is in flight, or the page is gone. */
  s?: number;
  /** It has been sent before. */
  t?: 1;
}

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const DAY = 1_440 * MINUTE;

const BATCH_EVENTS = 20;
const BATCH_MS = 5 * SECOND;
// Browsers give all requests that may outlive their page 64 KiB together.
const BODY_BYTES = 60_000;
const EVENT_BYTES = 32_000; // the server takes 32 KB, the timestamp included
const QUEUE_EVENTS = 1_000;
const GIVE_UP_MS = 5 * DAY; // the server takes events of the last 7 days
const TAKEN_MS = 31 * DAY; // and at most, where it is told to, of so many
const REPLY_MS = 30 * SECOND; // as long as API Gateway waits
const BACKOFF_MS = 5 * MINUTE;
const RETRY_AFTER_MS = 60 * MINUTE;
const STALE_MS = 15 * SECOND; // three heartbeats
// A page that was left does not learn whether its last request arrived, which nearly always it did. Sending it again at
// once would make each page of a shop send the last events of the page before; so they wait, and go together.
const DOUBT_MS = 5 * MINUTE;
const SESSION_MS = 30 * MINUTE;
const ACTIVE_MS = 30 * SECOND;
const CLOCK_MS = 2 * SECOND; // the Date header has whole seconds

const PREFIX = "footfall.";
const CONSENT = "consent";
const SMALL_KEYS = ["id", "user", "session", "clock", "wait"];
// What the server takes for no id. As the id of a user it would make it refuse everything that they do.
const NO_USER_ID =
  /^(|null|undefined|none|nan|0|guest|anonymous|\[object object\]|[0-]{36}|\.\.?)$|[/\0-\x1f\x7f-\x9f\ud800-\udfff]|.{129}/iu;

const ECOMMERCE = [
  "Products Searched",
  "Product List Viewed",
  "Product Viewed",
  "Promotion Clicked",
  "Product Added",
  "Product Removed",
  "Cart Viewed",
  "Product Added to Wishlist",
  "Checkout Started",
  "Order Completed",
  "Order Refunded",
  "Order Cancelled",
];

const isBrowser = typeof document !== "undefined";

let config: Config | undefined;
let hasStarted = false;
let defaultEndpoint = "";
let lost = 0;
/** Calls from before `init`. */
const waiting: (() => void)[] = [];

// --- storage ---------------------------------------------------------------------------------------------------------

/** What neither localStorage nor a cookie would keep. */
const memory: Record<string, string> = Object.create(null); // pages may have put things on Object.prototype

/** Do something that throws where the visitor has blocked storage, or where it is full. */
function attempt<T>(deed: () => T): T | undefined {
  try {
    return deed();
  } catch {
    return undefined;
  }
}

/** JSON, also on pages with an old Prototype.js, whose `toJSON` of arrays makes them text. */
function stringify(value: unknown): string {
  const lists = Array.prototype as { toJSON?: unknown };
  const theirs = lists.toJSON;
  delete lists.toJSON;
  try {
    return JSON.stringify(value);
  } finally {
    if (theirs) lists.toJSON = theirs;
  }
}

const cookie = (key: string, value: string, age: number): unknown =>
  attempt(
    () =>
      (document.cookie = `${PREFIX}${key}=${encodeURIComponent(value)};path=/;samesite=lax;max-age=${age}${
        location.protocol === "https:" ? ";secure" : ""
      }`),
  );

/** A small value: from localStorage, else a cookie, else memory. */
const read = (key: string): string =>
  attempt(() => localStorage.getItem(PREFIX + key)) ||
  attempt(() => decodeURIComponent(document.cookie.split(`${PREFIX}${key}=`)[1]!.split(";")[0]!)) ||
  memory[key] ||
  "";

function write(key: string, value: string): void {
  delete memory[key];
  attempt(() => localStorage.setItem(PREFIX + key, value));
  // In a storage that is full an old value would come first for ever.
  if (read(key) !== value) attempt(() => localStorage.removeItem(PREFIX + key));
  if (read(key) !== value) cookie(key, value, 365 * 24 * 3600);
  if (read(key) !== value) memory[key] = value;
}

function erase(key: string): void {
  delete memory[key];
  attempt(() => localStorage.removeItem(PREFIX + key));
  cookie(key, "", 0);
}

const storedQueues = (): string[] =>
  attempt(() => Object.keys(localStorage).filter((key) => key.startsWith(PREFIX + "q."))) || [];

/** All but the visitor's answer, which says nothing of who it is, and without which the next page would start again. */
function eraseAll(): void {
  SMALL_KEYS.forEach(erase);
  attempt(() => {
    // The answer is not even away for a moment: in that moment another tab would go on.
    for (const key of Object.keys(localStorage))
      if (key.startsWith(PREFIX) && key !== PREFIX + CONSENT) localStorage.removeItem(key);
  });
  queue = [];
  isStored = false;
}

// --- who -------------------------------------------------------------------------------------------------------------

/** A random UUID, also on pages without HTTPS, where browsers have no `randomUUID`. */
function uuid(): string {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 15) | 64;
  bytes[8] = (bytes[8]! & 63) | 128;
  return Array.from(
    bytes,
    (byte, index) => (index > 3 && index < 11 && index % 2 < 1 ? "-" : "") + (byte + 256).toString(16).slice(1),
  ).join("");
}

/** The visitor's own answer if there is one; else the browser's signal; else what the shop has chosen. */
function isAllowed(): boolean {
  const answer = read(CONSENT);
  return answer ? answer === "1" : !(navigator as Signalling).globalPrivacyControl && config!.consent !== false;
}

function anonymousId(): string {
  // Another script's, the server might refuse with everything that the visitor does.
  if (!/^anon_[\da-f-]{36}$/.test(read("id"))) write("id", "anon_" + uuid());
  return read("id");
}

/** The user's id and token, if somebody is logged in. */
const user = (): [string?, string?] => {
  const found: unknown = attempt(() => JSON.parse(read("user")));
  return Array.isArray(found) && !NO_USER_ID.test(found[0]) ? (found as [string?, string?]) : [];
};

/** Whoever comes next on this device is somebody else. */
function forgetVisitor(): void {
  leavePage(); // until now it was used by the one who goes
  ["id", "user", "session"].forEach(erase);
}

/** The session, shared by all tabs. It ends after 30 minutes without an event. */
function sessionId(isActivity: boolean): string {
  const now = Date.now();
  let [id, last] = read("session").split(" ");
  if (id?.length !== 36 || (isActivity && Math.abs(now - +last!) > SESSION_MS)) {
    id = uuid();
    last = "";
  }
  if (isActivity || !last) write("session", `${id} ${now}`);
  return id;
}

// --- the clock -------------------------------------------------------------------------------------------------------

/** How far the server's clock is ahead of this device's. Replies teach it. */
let skew = 0;
let hasClock = false;

function learnClock(reply: Response, sentAt: number): void {
  const now = Date.now();
  const offset = Date.parse(reply.headers.get("date") || "") + SECOND / 2 - (sentAt + now) / 2;
  // What is in the precision of the header would only make events of one page jump about.
  if (Math.abs(offset - skew) > CLOCK_MS + Math.abs(now - sentAt) / 2) skew = Math.round(offset);
  hasClock = true;
  if (!isAllowed()) return; // the answer has changed meanwhile
  if (skew) write("clock", `${skew} ${now}`);
  else if (read("clock")) erase("clock");
}

/** What a page before has learnt, unless this clock has been set since. */
function recallClock(): void {
  const [learnt, at] = read("clock").split(" ");
  const now = Date.now();
  const age = now - +at!;
  if (age >= 0 && age < DAY && attempt(() => instantOf(now + +learnt!))) skew = +learnt!;
}

/** Throws where there is no such time. */
const instantOf = (at: number): string => new Date(at).toISOString();
const instant = (at: number): string => instantOf(at + skew);

// --- making events ---------------------------------------------------------------------------------------------------

// Query strings and fragments hold tokens and addresses; none is sent.
const withoutQuery = (url: string): string => url.split(/[?#]/)[0]!;

/** The page of the last page view, for what is sent about it when it is already left. */
let current: Page | undefined;
let previousUrl = "";

const here = (): Page => ({
  path: location.pathname,
  url: withoutQuery(location.href),
  referrer: withoutQuery(previousUrl || document.referrer),
  title: document.title,
});

function campaign(): Properties | undefined {
  const found: Properties = {};
  new URLSearchParams(location.search).forEach((value, key) => {
    const name = key.slice(4);
    if (name && key.startsWith("utm_")) found[name === "campaign" ? "name" : name] = value;
  });
  return Object.keys(found).length ? found : undefined;
}

function add(type: string, fields: Properties, page: Page = here(), isActivity = true): void {
  sync();
  const entry = attempt((): Entry => {
    const [userId, userToken] = user();
    const text = stringify({
      type,
      messageId: uuid(),
      ...(userId ? { userId } : { anonymousId: anonymousId() }),
      ...fields,
      context: { page, sessionId: sessionId(isActivity), campaign: campaign(), userToken },
    });
    // Read back, so that the caller cannot change it any more.
    return { e: bytesOf(text) < EVENT_BYTES ? JSON.parse(text) : 0, at: Date.now() };
  });
  if (!entry?.e) {
    lost++; // too large, or nothing that JSON can say
    return;
  }
  if (hasClock) entry.e.timestamp = instant(entry.at);
  queue.push(entry);
  trim();
  if (queue.filter(isDue).length < limit) schedule(BATCH_MS);
  else void send();
}

// --- the queue -------------------------------------------------------------------------------------------------------

/** This page, to others of the same shop. */
const tab = isBrowser ? uuid() : "";
let queue: Entry[] = [];
/** Whether the queue is in localStorage too. */
let isStored = false;
/** When this page last told others that it is alive; 0 from when it was left. */
let beatAt = 1;

const bytesOf = (text: string): number => new TextEncoder().encode(text).length;

function beat(): void {
  if (beatAt) beatAt = Date.now();
  attempt(() => localStorage.setItem(`${PREFIX}b.${tab}`, `${beatAt}`));
}

function removeQueue(id: string): void {
  // In this order: a queue without a heartbeat would be taken for one whose page is gone.
  attempt(() => localStorage.removeItem(`${PREFIX}q.${id}`));
  attempt(() => localStorage.removeItem(`${PREFIX}b.${id}`));
}

function save(): void {
  // A reply may come when the answer has changed, in whatever tab.
  if (queue[0] && !isAllowed()) queue = [];
  if (queue[0] && !isStored) beat();
  isStored = !!attempt(() => {
    if (queue[0]) localStorage.setItem(`${PREFIX}q.${tab}`, stringify(queue));
    return queue[0];
  });
  if (!isStored) removeQueue(tab);
}

/** Give up what is too old, and the oldest of too many. */
function trim(): void {
  const kept = queue.filter((entry) => Date.now() - entry.at < GIVE_UP_MS).slice(-QUEUE_EVENTS);
  lost += queue.length - kept.length;
  queue = kept;
  save();
}

/** While this page was frozen, another one may have taken it for gone, and adopted its queue. */
function sync(): void {
  if (isStored && Math.abs(Date.now() - beatAt) > STALE_MS && !storedQueues().includes(`${PREFIX}q.${tab}`)) {
    queue = [];
    isStored = false;
  }
}

/** Take over the queues of pages that are gone. */
function adopt(): void {
  for (const key of storedQueues()) {
    const id = key.slice(PREFIX.length + 2);
    const beatKey = `${PREFIX}b.${id}`;
    const beatOf = (): string => attempt(() => localStorage.getItem(beatKey)) || "";
    if (id === tab || Math.abs(Date.now() - parseInt(beatOf())) < STALE_MS) continue;
    // A claim is a heartbeat that names the claimant. The last one to write it wins, and a claimant that dies before it
    // acts leaves a queue that goes stale again.
    const claim = `${Date.now()} ${tab}`;
    attempt(() => localStorage.setItem(beatKey, claim));
    setTimeout(() => {
      if (!beatAt || beatOf() !== claim) return;
      const stored: unknown = attempt(() => JSON.parse(localStorage.getItem(key)!));
      removeQueue(id);
      // One that cannot be sent would hold up all that come after it.
      const found = Array.isArray(stored) ? (stored as Entry[]) : [];
      const adopted = found.filter((entry) =>
        attempt(() => {
          const isSmall = bytesOf(stringify(entry.e)) < EVENT_BYTES + 100; // which its time may take
          return entry.e.messageId && instant(entry.at) && isSmall;
        }),
      );
      lost += found.length - adopted.length;
      queue = [...adopted, ...queue];
      trim();
      schedule(BATCH_MS);
    }, 100 + Math.random() * 200);
  }
}

// --- sending ---------------------------------------------------------------------------------------------------------

let timer = 0;
let limit = BATCH_EVENTS;
let failures = 0;
/** Not before; by performance.now(), which no one can set. */
let retryAt = 0;
let bytesInFlight = 0;
let inFlight: Promise<boolean> = Promise.resolve(false);

function schedule(wait: number): void {
  timer ||= setTimeout(() => {
    timer = 0;
    void send();
  }, wait) as unknown as number; // Node's types say otherwise
}

// What is no time, in a queue that somebody else has written, is no reason to wait.
const isDue = (entry: Entry): boolean => !(Math.abs(Date.now() - entry.s!) <= DOUBT_MS);

/** Send a batch, or when the page is being hidden as many as browsers allow. Resolves to whether more may follow. */
function send(isHiding = false): Promise<boolean> {
  sync();
  if (!isAllowed()) {
    eraseAll();
    return Promise.resolve(false);
  }
  const asked = +read("wait") - Date.now();
  // A page that is left may have no other chance; only what the service has asked for still holds.
  const backoff = isHiding ? 0 : retryAt - performance.now();
  const wait = Math.max(backoff, asked < RETRY_AFTER_MS ? asked : 0);
  if (wait > 0) {
    if (queue[0]) schedule(wait);
    return Promise.resolve(false);
  }
  if (bytesInFlight && !isHiding) return inFlight;

  clearTimeout(timer);
  timer = 0;
  trim();
  const { userAgent, language } = navigator;
  const library = { name: "footfall-js", version: VERSION };
  const head = stringify({
    writeKey: config!.writeKey,
    sentAt: instant(Date.now()),
    context: { library, userAgent, locale: language },
  }).replace(/}$/, ',"batch":[');
  const batch: Entry[] = [];
  const isRetry: boolean[] = [];
  const texts: string[] = [];
  let bytes = bytesOf(head) + 2;
  for (const entry of queue) {
    if (batch.length === limit) break;
    if (!isDue(entry)) continue;
    // Until now the clock may be corrected; from now on every attempt says the same.
    const text = stringify({ ...entry.e, timestamp: entry.e.timestamp || instant(entry.at) });
    bytes += bytesOf(text) + 1;
    if (bytesInFlight + bytes > BODY_BYTES) {
      bytes -= bytesOf(text) + 1;
      break;
    }
    entry.e = JSON.parse(text);
    entry.s = Date.now();
    batch.push(entry);
    isRetry.push(!!entry.t);
    entry.t = 1;
    texts.push(text);
  }
  if (!batch[0]) return Promise.resolve(false);
  save();
  bytesInFlight += bytes;
  inFlight = post(batch, isRetry, `${head}${texts}]}`).then((isDone) => {
    bytesInFlight -= bytes;
    sync();
    save();
    const left = queue.filter(isDue).length;
    if (isDone && left >= limit) void send();
    else if (left) schedule(isDone ? BATCH_MS : 0);
    return isDone;
  });
  return isHiding ? send(true) : inFlight;
}

/** Whether no earlier try of what is refused for its time was counted either, and the time is known better by now. */
function mayCorrect({ e, at }: Entry, isRetry: boolean): boolean {
  const ahead = Date.parse(e.timestamp!) - Date.now() - skew;
  // What is still ahead was so even more before, and what is far behind was so all the time.
  return (!isRetry || ahead > 0 || ahead < -TAKEN_MS - GIVE_UP_MS) && instant(at) !== e.timestamp;
}

/** One request. Takes out of the queue what is decided; resolves to whether the next may follow at once. */
async function post(batch: Entry[], isRetry: boolean[], body: string): Promise<boolean> {
  let decided = 0;
  let asked = 0;
  const isKept = new Set<Entry>();
  try {
    const sentAt = Date.now();
    // A string as the body makes it text/plain, which needs no preflight.
    const reply = await fetch(`${config!.endpoint}/v1/batch`, {
      method: "POST",
      body,
      keepalive: true,
      credentials: "omit",
      referrerPolicy: "strict-origin", // whatever the shop's own is: the address may hold tokens
      signal: AbortSignal.timeout?.(REPLY_MS),
    });
    learnClock(reply, sentAt);
    const { status } = reply;
    const text = await reply.text(); // unread, it would go on using up what a leaving page may send
    if (status === 200) {
      const said = JSON.parse(text);
      // The page of a hotel's network is no acknowledgement.
      if (said.success) {
        decided = 1;
        limit = Math.min(limit * 2, BATCH_EVENTS);
        lost += +said.rejectedCount || 0;
        for (const { index, code } of said.rejected || []) {
          if (code === "timestamp_out_of_range" && mayCorrect(batch[index]!, isRetry[index]!)) {
            isKept.add(batch[index]!);
            delete batch[index]!.e.timestamp;
            lost--;
          }
        }
      }
    } else if ((status === 413 || status === 400 || status === 422) && batch[1]) {
      // It may be for one of them.
      limit = batch.length >> 1;
      decided = 2;
    } else if (status >= 400 && status < 500 && status !== 408 && status !== 429) {
      decided = 1;
      lost += batch.length;
    } else {
      const header = reply.headers.get("retry-after") || "";
      asked = Math.min(+header * SECOND || Date.parse(header) - Date.now() - skew || 0, RETRY_AFTER_MS);
    }
  } catch {
    // No network, no reply, or not from Footfall.
  }
  for (const entry of batch) delete entry.s;
  if (decided) {
    failures = 0;
    const ids = decided > 1 ? [] : batch.filter((entry) => !isKept.has(entry)).map((entry) => entry.e.messageId);
    queue = queue.filter((entry) => !ids.includes(entry.e.messageId));
    return true;
  }
  if (asked > 0 && isAllowed()) write("wait", `${Date.now() + asked}`); // every tab is asked to wait
  retryAt =
    performance.now() + Math.max(asked, 0) + Math.min(BACKOFF_MS, SECOND * 2 ** failures++) * (0.5 + Math.random() / 2);
  return false;
}

// --- pages -----------------------------------------------------------------------------------------------------------

let engagedMs = 0;
/** The last sign of life while the page is visible, by performance.now(). */
let activeSince = 0;

/** Time counts as used for half a minute after each sign of life. */
function noteActivity(): void {
  const now = performance.now();
  if (activeSince) engagedMs += Math.min(now - activeSince, ACTIVE_MS);
  activeSince = document.hidden ? 0 : now;
}

function leavePage(): void {
  noteActivity();
  const engagedSeconds = Math.min(Math.floor(engagedMs / SECOND), DAY / SECOND);
  engagedMs -= engagedSeconds * SECOND;
  if (engagedSeconds && config!.engagement !== false && isAllowed()) {
    // Of the session that the page was of, even if it was left open for an hour.
    add("track", { event: "Page Left", properties: { engagedSeconds } }, current, false);
  }
}

let lastRoute: string | undefined;
const route = (): string => location.pathname + location.search;

function viewPage(name?: string, properties?: Properties): void {
  leavePage();
  if (current) previousUrl = current.url;
  current = here();
  lastRoute = route();
  add("page", { name, properties }, current);
}

/** Count the page view of another route, once, whoever says that it changed. */
function followRoute(isReplaced?: boolean): void {
  if (config!.autoPage === false || !isAllowed() || lastRoute === route()) return;
  // A filter or a search box that keeps its state in the address is no page.
  if (isReplaced && lastRoute?.split("?")[0] === location.pathname) lastRoute = route();
  else viewPage();
}

function watchPage(): void {
  for (const name of ["pushState", "replaceState"] as const) {
    const original = history[name];
    const follow = function (this: History, ...given: Parameters<History["pushState"]>) {
      original.apply(this, given);
      setTimeout(followRoute, 0, name === "replaceState"); // when the new page has its title
    };
    attempt(() => (history[name] = follow)); // which a page may have forbidden
  }
  addEventListener("popstate", () => setTimeout(followRoute));
  // Routers that do not use `history` any more; of what goes through both the second finds nothing new.
  (window as Navigating).navigation?.addEventListener("currententrychange", (event) =>
    setTimeout(followRoute, 0, (event as Event & { navigationType?: string }).navigationType === "replace"),
  );
  for (const name of ["keydown", "pointerdown", "pointermove", "scroll"]) {
    addEventListener(name, noteActivity, { passive: true, capture: true });
  }

  const hide = (): void => {
    // Left before it was counted, but not before what it has said was.
    if (!lastRoute) followRoute();
    leavePage();
    // What cannot arrive is left for the next page, which need not doubt whether it has.
    if (navigator.onLine) void send(true);
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? hide() : noteActivity()));
  addEventListener("pagehide", () => {
    hide();
    activeSince = 0;
    beatAt = 0; // gone, as far as others are concerned
    if (isStored) beat();
  });
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    noteActivity();
    sync();
    beatAt = 1;
    if (isStored) beat();
    lastRoute = undefined;
    followRoute();
    adopt();
  });
  // What another tab has been told is true of this one, at once.
  addEventListener("storage", ({ key }) => key === PREFIX + CONSENT && !isAllowed() && eraseAll());
  addEventListener("online", () => {
    retryAt = 0;
    void send();
  });
  setInterval(() => {
    sync();
    if (!beatAt || !isAllowed()) return;
    if (isStored) beat();
    adopt();
    if (queue.some((entry) => entry.s && isDue(entry))) void send();
  }, BATCH_MS);
}

// --- what pages call -------------------------------------------------------------------------------------------------

/** Does nothing without consent; waits for `init` if that is still to come. */
const ready =
  <Given extends unknown[]>(deed: (...given: Given) => void, needsConsent = true) =>
  (...given: Given): void => {
    if (!hasStarted) {
      // On a server there is no page to count.
      if (isBrowser && waiting.length < QUEUE_EVENTS) waiting.push(() => ready(deed, needsConsent)(...given));
    } else if (!needsConsent || isAllowed()) attempt(() => deed(...given));
  };

function start(): void {
  hasStarted = true;
  recallClock();
  if (!isAllowed()) eraseAll();
  noteActivity();
  watchPage();
  adopt();
  // After the calls that the page makes now: one of them may be `page`.
  setTimeout(followRoute);
  waiting.splice(0).forEach((call) => call());
}

const track = ready((event: string, properties?: Properties): void => add("track", { event, properties }));

/** The SDK; `window.footfall` of the build for script tags. */
export const footfall = {
  version: VERSION,
  get lost() {
    return lost;
  },
  get anonymousId() {
    return hasStarted && isAllowed() ? anonymousId() : "";
  },
  init(given) {
    if (config || !isBrowser) return;
    const writeKey = given?.writeKey;
    const endpoint = `${given?.endpoint || defaultEndpoint}`.replace(/\/+$/, "");
    if (!writeKey || !/^(https?:\/)?\/./.test(endpoint)) {
      console.error('footfall: init needs {writeKey: "…", endpoint: "https://…"}, and nothing is counted without');
      return;
    }
    config = { ...given, writeKey, endpoint };
    // A page that is drawn ahead, and that nobody may ever see.
    if ((document as Prerendered).prerendering) document.addEventListener("prerenderingchange", start, { once: true });
    else start();
  },
  page: ready(viewPage),
  track,
  identify: ready((id, traits, options) => {
    const userId = `${id ?? ""}`.trim();
    if (NO_USER_ID.test(userId) || userId.startsWith("anon_")) return;
    const [known, token] = user();
    const isKnown = known === userId;
    if (known && !isKnown) forgetVisitor();
    write("user", stringify([userId, options?.token || (isKnown ? token : undefined)]));
    // The history is the user's also where the traits cannot be sent.
    const areFine = attempt(() => bytesOf(stringify(traits)) < EVENT_BYTES / 2);
    add("identify", { userId, anonymousId: anonymousId(), traits: areFine ? traits : undefined });
  }),
  reset: ready(forgetVisitor),
  async flush() {
    while (hasStarted && (await send()));
  },
  setConsent: ready((given) => {
    const wasAllowed = isAllowed();
    const isGiven = (given as unknown) === true; // "denied" is no yes
    // The time before the answer is nobody's business.
    if (!wasAllowed) leavePage();
    write(CONSENT, isGiven ? "1" : "0");
    if (!isGiven) eraseAll();
    if (wasAllowed) return;
    lastRoute = undefined;
    followRoute();
  }, false),
} as Footfall;

for (const name of ECOMMERCE) {
  const method = name[0]!.toLowerCase() + name.slice(1).replace(/ (.)/g, (_, letter: string) => letter.toUpperCase());
  (footfall as unknown as Record<string, unknown>)[method] = (properties?: Properties) => track(name, properties);
}

if (SCRIPT_TAG) {
  const stub = window.footfall as (Footfall & { q?: [keyof Footfall, unknown[]][] }) | undefined;
  const tag = document.currentScript as HTMLScriptElement | null;
  // A page that has the tag twice is counted once. What has no `track` is an element whose id is footfall.
  if (!stub?.track || stub.q) {
    window.footfall = footfall;
    if (tag?.src) defaultEndpoint = new URL(tag.src).origin;
    const { writeKey, endpoint } = tag?.dataset || {};
    if (writeKey) footfall.init({ writeKey, endpoint });
    for (const [name, given] of stub?.q || []) attempt(() => (footfall[name] as (...given: unknown[]) => void)(...given));
  }
}
