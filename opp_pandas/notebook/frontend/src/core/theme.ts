import "./theme.css";

/** Whether what stands behind an element is dark, also where it stands in a shadow. */
function isDark(element: Element): boolean {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  let node: Element | null = canvas && element;
  while (node && canvas) {
    const color = getComputedStyle(node).backgroundColor;
    if (color && color !== "transparent" && !/, 0\)$/.test(color)) {
      canvas.fillStyle = color;
      canvas.fillRect(0, 0, 1, 1);
      const [red, green, blue] = canvas.getImageData(0, 0, 1, 1).data;
      return 0.299 * red + 0.587 * green + 0.114 * blue < 128;
    }
    const shadow = node.getRootNode();
    node = node.parentElement ?? (shadow instanceof ShadowRoot ? shadow.host : null);
  }
  return window.matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Let an element with the class `opp-root` have the host's light or dark colours from now on; ends when called. */
export function followTheme(root: HTMLElement): () => void {
  const look = () => root.classList.toggle("opp-dark", isDark(root.parentElement ?? root));
  const observer = new MutationObserver(look);
  for (const node of [document.documentElement, document.body]) observer.observe(node, { attributes: true });
  requestAnimationFrame(look);
  return () => observer.disconnect();
}
