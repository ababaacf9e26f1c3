"""Layout of graphs, and pictures of them as SVG, Mermaid and Graphviz text."""
