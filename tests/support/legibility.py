"""What a page must not have: faint texts, tables that are cut off, figures without an alternative, 95 % for 95%."""

FAINT = """
() => {
    const parse = colour => { const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
    const over = ([r, g, b, a], below) => [r, g, b].map((v, k) => v * a + below[k] * (1 - a));
    const above = element => element ? [...above(element.parentElement), element] : [];
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const behind = element => above(element)
        .reduce((colour, e) => over(parse(getComputedStyle(e).backgroundColor), colour), [255, 255, 255]);
    const opacity = element => above(element).reduce((o, e) => o * getComputedStyle(e).opacity, 1);
    const AXES = '.xtick, .ytick, .xtitle, .ytitle, .annotation';
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const faint = [];
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        const svg = element.closest('svg');
        const hasNoNeed = element.closest(':disabled') || svg && !element.closest(AXES);
        if (!texts.currentNode.textContent.trim() || hasNoNeed) continue;
        const style = getComputedStyle(element);
        const ground = behind(svg ? svg.parentElement : element);
        const [red, green, blue, share] = parse(svg ? style.fill : style.color);
        const alpha = share * opacity(element);
        if (alpha === 0) continue;  // it is shown once the pointer is above it
        const [a, b] = [light(over([red, green, blue, alpha], ground)), light(ground)];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) faint.push(`${contrast.toFixed(2)}: ${texts.currentNode.textContent.trim().slice(0, 60)}`);
    }
    return faint;
}
"""
"""Texts whose contrast is below 4.5, by WCAG 2.1's relative luminance; of figures, those of Plotly's axes."""
UNNAMED = """
() => [...document.querySelectorAll('img, svg, [role=img]')]
    .filter(e => !e.getAttribute('alt') && !e.getAttribute('aria-label')
        && !(e.getAttribute('aria-labelledby') || '').split(' ').some(id => document.getElementById(id)?.textContent)
        && !e.closest('[aria-hidden=true]') && !e.closest('[role=figure][aria-label]') && e.id !== 'js-plotly-tester')
    .map(e => e.outerHTML.slice(0, 100))
"""
CUT_OFF = """
() => [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1)
    .map(e => `${e.scrollWidth} of ${e.clientWidth} px: ${e.getAttribute('aria-label')}`)
"""
"""Tables and figures that are wider than their place."""
SPACED_PERCENT = r"(?:[0-9)}\]]|</span>)(?: |\u00a0|&nbsp;)%(?!\}|\{(?!%|\{ )|[\w=(]| [\d(]| [a-z_.]+[)\]:])"
"""A percent sign behind a number and a space; of code and templates no operator, and no end of a block."""
