"""A node pack of the tests: pictures as a list of different sizes, as loaders of folders give."""


class PicturesOfDifferentSizes:
    CATEGORY = "tests"
    FUNCTION = "cut"
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 (ComfyUI's name)
        return {"required": {"image": ("IMAGE",)}}

    def cut(self, image):
        return ([picture[None, 4 * i :, 2 * i :] for i, picture in enumerate(image)],)


NODE_CLASS_MAPPINGS = {"FacewrightTestSizes": PicturesOfDifferentSizes}
