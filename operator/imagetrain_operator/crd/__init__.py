"""The CustomResourceDefinition and the manifest's reference, made from the declarations in `imagetrain_api`.

Nothing here decides what a manifest may say: that is declared in `imagetrain_api` alone.
"""
