// A theme's file as a shop's server renders it: node liquid.mjs <file> <its objects as JSON>
import { Liquid } from 'liquidjs'
import { readFile } from 'node:fs/promises'

const [file, objects] = process.argv.slice(2)
const engine = new Liquid({ strictFilters: true })
// Shopify's own filter of this name escapes what could end a script.
engine.registerFilter('json', (value) => JSON.stringify(value).replaceAll('<', '\\u003c'))
console.log(await engine.parseAndRender(await readFile(file, 'utf8'), JSON.parse(objects)))
