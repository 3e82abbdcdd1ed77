// Many visitors at once through one client of the page, so that several requests are under way together.
// node crowd.mjs <file that exports analytics> <visits as JSON: [[visitor, user, order]…]>
const [file, visits] = process.argv.slice(2)
const { analytics } = await import(file)
const moment = () => new Promise((resolve) => setTimeout(resolve, 5))

const people = JSON.parse(visits)
const steps = [
  (visitor) => analytics.page({ anonymousId: visitor, name: 'Home' }),
  (visitor) => analytics.page({ anonymousId: visitor, name: 'Jackets' }),
  (visitor) => analytics.track({ anonymousId: visitor, event: 'Product Viewed', properties: { product_id: 'sku-9' } }),
  (visitor) => analytics.track({ anonymousId: visitor, event: 'Product Added', properties: { product_id: 'sku-9' } }),
  (visitor, user) => analytics.identify({ anonymousId: visitor, userId: user }),
  (_, user, order) =>
    analytics.track({
      userId: user,
      event: 'Order Completed',
      properties: { order_id: order, revenue: 59.9, currency: 'EUR', products: [{ quantity: 2 }, {}] },
    }),
  (_, user) => analytics.page({ userId: user, name: 'Thank you' }),
  (_, user) => analytics.track({ userId: user, event: 'Newsletter Signed Up' }),
]
for (const step of steps) {
  for (const person of people) step(...person)
  await moment() // the client may send now what is full
}
await (analytics.closeAndFlush ? analytics.closeAndFlush() : analytics.flush())
