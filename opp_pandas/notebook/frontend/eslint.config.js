import tseslint from "typescript-eslint";

const parsing = ["innerHTML", "outerHTML", "insertAdjacentHTML", "createContextualFragment", "setHTMLUnsafe", "parseFromString"];

export default tseslint.config(
  { ignores: ["node_modules", "build.js", "eslint.config.js"] },
  tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      eqeqeq: ["error", "always", { null: "ignore" }],
      "no-eval": "error",
      "no-implied-eval": "error",
      "prefer-const": "error",
      // Data is only ever text: whatever would parse it as HTML is forbidden.
      "no-restricted-syntax": [
        "error",
        ...parsing.map((name) => ({
          selector: `MemberExpression[property.name="${name}"], MemberExpression[property.value="${name}"]`,
          message: `${name} would parse data as HTML: set textContent, or build elements with make().`,
        })),
        { selector: "MemberExpression[object.name='document'][property.name=/^write/]", message: "Build elements with make()." },
      ],
      "no-restricted-globals": ["error", { name: "fetch", message: "Everything comes from Python, by messages." }, "XMLHttpRequest"],
    },
  },
);
